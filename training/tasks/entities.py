"""The things that questions are about, each kind divided into train, dev and test by a hash of its name."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import cache

import airportsdata
import holidays
import periodictable
from babel import Locale

from examples.tools import places

Draw = Callable[[random.Random], "Entity"]


class Split(StrEnum):
    """Which part of the data an entity or a wording belongs to."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


@dataclass(frozen=True)
class Entity:
    """`surface` is how the question says it, `value` what a tool takes."""

    surface: str
    value: str | int | float | list[float]


def split_of(key: str) -> Split:
    """A stable tenth for dev, two for test, seven for training."""
    bucket = hashlib.blake2b(key.encode(), digest_size=4).digest()[0] % 10
    return Split.DEV if bucket == 7 else Split.TEST if bucket > 7 else Split.TRAIN


def draw(kind: str, split: Split, rng: random.Random) -> Entity:
    """A random entity of a kind that belongs to a split. Raises KeyError for an unknown kind."""
    maker = _MAKERS[kind]
    while True:
        entity = maker(rng)
        if kind in _SHARED or split_of(f"{kind}:{entity.value}") is split:
            return entity


def _same(text: str) -> Entity:
    return Entity(text, text)


@cache
def _countries() -> tuple[str, ...]:
    names = (country.name for country in places.countries().values() if country.capital and country.population > 0)
    return tuple(sorted(name.removeprefix("The ") for name in names))


@cache
def _cities() -> tuple[str, ...]:
    seen: dict[str, None] = {}
    for city in places.cities()[:3000]:
        if places.find_city(city.name) is city and city.name.replace(" ", "").replace("-", "").isalpha():
            seen.setdefault(city.name)
    return tuple(seen)


@cache
def _airports() -> tuple[str, ...]:
    known = set(_cities())
    return tuple(sorted(c for c, entry in airportsdata.load("IATA").items() if entry["city"] in known))


@cache
def _elements() -> tuple[str, ...]:
    return tuple(element.name for element in periodictable.elements if 1 <= element.number <= 103)


@cache
def _languages() -> tuple[str, ...]:
    english = Locale("en").languages
    return tuple(sorted(name for code, name in english.items() if len(code) == 2 and name.isalpha()))


@cache
def _currencies() -> tuple[str, ...]:
    return tuple(sorted({country.currency for country in places.countries().values() if country.currency}))


_HOLIDAY_COUNTRIES = (
    "United States", "United Kingdom", "Canada", "France", "Italy", "Poland", "Japan", "Brazil", "Mexico", "Australia",
    "New Zealand", "Ireland", "Sweden", "Norway", "Denmark", "Finland", "Portugal", "Austria", "Belgium", "Greece",
    "Netherlands", "South Africa", "Argentina", "Chile", "Colombia", "Peru", "Hungary", "Romania", "Bulgaria",
    "Croatia", "Iceland", "Estonia", "Latvia", "Lithuania", "Luxembourg", "Kenya", "Nigeria", "Ukraine", "Serbia",
    "Uruguay",
)  # fmt: skip


@cache
def _holiday_names() -> tuple[tuple[str, str], ...]:
    pairs: dict[tuple[str, str], None] = {}
    for country in _HOLIDAY_COUNTRIES:
        code = places.find_country(country).code
        for name in holidays.country_holidays(code, years=2025, language="en_US").values():
            if ";" not in name and "(" not in name and len(name) < 32:
                pairs.setdefault((country, name))
    return tuple(pairs)


def holiday(split: Split, rng: random.Random) -> tuple[Entity, Entity]:
    """A country and one of its holidays."""
    while True:
        country, name = rng.choice(_holiday_names())
        if split_of(f"holiday:{country}{name}") is split:
            return _same(country), _same(name)


def say_date(day: date, rng: random.Random) -> Entity:
    """A date in one of the ways people write it."""
    suffix = "th" if 10 < day.day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    forms = (
        day.isoformat(),
        day.isoformat(),
        f"{day.day} {day:%B} {day.year}",
        f"{day:%B} {day.day}, {day.year}",
        f"{day:%B} {day.day}{suffix}, {day.year}",
        f"{day.day} {day:%b} {day.year}",
        f"the {day.day}{suffix} of {day:%B} {day.year}",
    )
    return Entity(rng.choice(forms), day.isoformat())


def _date(rng: random.Random) -> Entity:
    return say_date(date(2021, 1, 1) + timedelta(days=rng.randrange(4000)), rng)


def _number_text(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _amount(rng: random.Random) -> Entity:
    value = rng.choice([rng.randrange(1, 1000), round(rng.uniform(0.5, 100), 1), rng.randrange(10, 100) * 10])
    return Entity(_number_text(value), value)


def _numbers(rng: random.Random) -> Entity:
    whole = rng.random() < 0.75
    values = [rng.randrange(1, 200) if whole else round(rng.uniform(0, 50), 1) for _ in range(rng.randrange(3, 7))]
    texts = [_number_text(value) for value in values]
    joined = rng.choice([", ".join(texts), ", ".join(texts[:-1]) + " and " + texts[-1], " ".join(texts)])
    return Entity(joined, values)


def _expression(rng: random.Random) -> Entity:
    a, b, c = (rng.choice([str(rng.randrange(2, 500)), f"{rng.uniform(1, 60):.1f}"]) for _ in range(3))
    small = rng.randrange(2, 7)
    forms = (
        f"{a} * {b}", f"{a} + {b} - {c}", f"({a} + {b}) * {small}", f"{a} / {small}", f"{a} - {b} * {small}",
        f"sqrt({rng.randrange(4, 400)})", f"{rng.randrange(2, 15)}^{small}", f"({a} - {b}) / {small} + {c}",
        f"{a}*{b}+{c}", f"{small}*({a}+{b})",
    )  # fmt: skip
    return _same(rng.choice(forms))


def _equation(rng: random.Random) -> Entity:
    root, factor, shift = rng.randrange(-9, 20), rng.randrange(2, 12), rng.randrange(1, 30)
    other = rng.randrange(1, 9)
    forms = (
        f"{factor}*x + {shift} = {factor * root + shift}",
        f"{factor}*x - {shift} = {factor * root - shift}",
        f"x^2 - {root + other}*x + {root * other} = 0" if root > 0 else f"x/{factor} = {shift}",
        f"{factor + 1}*x = x + {factor * shift}",
        f"x^2 = {shift * shift}",
    )
    return _same(rng.choice(forms))


def _clock_time(rng: random.Random) -> Entity:
    hour, minute = rng.randrange(24), rng.choice([0, 0, 15, 30, 45, rng.randrange(60)])
    half = f"{(hour - 1) % 12 + 1}{f':{minute:02}' if minute else ''} {'am' if hour < 12 else 'pm'}"
    return Entity(rng.choice([f"{hour:02}:{minute:02}", half]), f"{hour:02}:{minute:02}")


def _office_hour(rng: random.Random) -> Entity:
    hour = rng.randrange(8, 19)
    half = f"{(hour - 1) % 12 + 1} {'am' if hour < 12 else 'pm'}"
    return Entity(rng.choice([f"{hour}:00", half, half.replace(" ", "")]), hour)


_UNITS = {
    "length": "metres kilometres miles feet inches yards centimetres millimetres km cm",
    "mass": "kilograms grams pounds ounces kg tons stone",
    "volume": "litres millilitres gallons pints cups",
    "temperature": "degrees Celsius|degrees Fahrenheit|kelvin|Celsius|Fahrenheit",
    "time": "seconds minutes hours days weeks",
    "speed": "km/h|mph|m/s|knots",
    "area": "acres|hectares|square metres|square feet|square kilometres|square miles",
    "energy": "joules calories kWh kilojoules",
}
_UNIT_NAMES = {
    "degrees Celsius": "celsius", "degrees Fahrenheit": "fahrenheit", "Celsius": "celsius", "Fahrenheit": "fahrenheit"
}  # fmt: skip


def unit_pair(rng: random.Random) -> tuple[Entity, Entity]:
    """Two units of the same dimension."""
    row = rng.choice(list(_UNITS.values()))
    units = rng.sample(row.split("|") if "|" in row else row.split(), 2)
    first, second = (Entity(unit, _UNIT_NAMES.get(unit, unit)) for unit in units)
    return (first, second) if first.value != second.value else unit_pair(rng)


_ATOMS = ("H", "C", "N", "O", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "K", "Ca", "Fe", "Cu", "Zn", "Br", "Ag", "I")


def _formula(rng: random.Random) -> Entity:
    atoms = rng.sample(_ATOMS, rng.randrange(2, 4))
    return _same("".join(atom + (str(n) if (n := rng.randrange(1, 8)) > 1 else "") for atom in atoms))


_VERBS = (
    "buy order call email book fix clean water paint return renew collect write send check plan wash repair".split()
)
_THINGS = (
    "oat milk,the plumber,Grandma,train tickets,the bike,the kitchen,the plants,the fence,library books,my passport,"
    "the parcel,a thank-you note,the invoice,the smoke alarm,the summer trip,the curtains,the roof,new shoes,Marta,"
    "the dentist,concert tickets,the lamp,the garage,the tomatoes,the hallway,the drill,the car insurance,the suit,"
    "a birthday card,the contract,the boiler,a picnic,the windows,the printer,cat food,the landlord,Mr Novak"
).split(",")
_FIRST = (
    "Ines Omar Lucy Tomas Mei Ravi Anna Pavel Grace Hugo Leila Nils Rosa Kofi Yara Igor Emma Juan Sven Aisha".split()
)
_LAST = "Okafor Lindqvist Moreau Tanaka Silva Novak Haddad Larsen Petrov Kim Rossi Mensah Weber Costa Ortiz".split()


def _title(rng: random.Random) -> Entity:
    return _same(f"{rng.choice(_VERBS)} {rng.choice(_THINGS)}")


_CONTINENTS = ("Africa", "Asia", "Europe", "North America", "Oceania", "South America")
_ROOMS = ("Amber", "Birch", "Cedar", "Dune")
_FAR_UNITS = ("nautical miles", "feet", "yards", "metres", "inches")
_SHARED = {"continent", "room", "unit", "far_unit", "limit", "year", "hour", "id", "number_z"}  # too few to divide

_MAKERS: dict[str, Draw] = {
    "country": lambda rng: _same(rng.choice(_countries())),
    "city": lambda rng: _same(_cities()[min(int(rng.expovariate(1 / 450)), len(_cities()) - 1)]),
    "airport": lambda rng: _same(rng.choice(_airports())),
    "element": lambda rng: _same(rng.choice(_elements())),
    "language": lambda rng: _same(rng.choice(_languages())),
    "currency": lambda rng: _same(rng.choice(_currencies())),
    "holiday_country": lambda rng: _same(rng.choice(_HOLIDAY_COUNTRIES)),
    "continent": lambda rng: _same(rng.choice(_CONTINENTS)),
    "zone": lambda rng: _same(
        rng.choice(_cities()[:600]) if rng.random() < 0.8 else rng.choice(places.cities()[:2000]).timezone
    ),
    "date": _date,
    "year": lambda rng: (lambda year: Entity(str(year), year))(rng.randrange(2021, 2032)),
    "days": lambda rng: (lambda days: Entity(str(days), days))(
        rng.choice([rng.randrange(2, 60), rng.randrange(60, 900)])
    ),
    "limit": lambda rng: (lambda count: Entity(str(count), count))(rng.randrange(2, 6)),
    "unit": lambda rng: rng.choice(
        [Entity("miles", "miles"), Entity("km", "km"), Entity("kilometres", "km"), Entity("kilometers", "km")]
    ),
    "far_unit": lambda rng: _same(rng.choice(_FAR_UNITS)),
    "amount": _amount,
    "numbers": _numbers,
    "expression": _expression,
    "equation": _equation,
    "whole": lambda rng: (lambda n: Entity(str(n), n))(rng.choice([rng.randrange(4, 500), rng.randrange(500, 100000)])),
    "number_z": lambda rng: (lambda n: Entity(str(n), n))(rng.randrange(1, 104)),
    "latitude": lambda rng: (lambda x: Entity(str(x), x))(round(rng.uniform(-45, 65), 2)),
    "longitude": lambda rng: (lambda x: Entity(str(x), x))(round(rng.uniform(-125, 150), 2)),
    "time": _clock_time,
    "hour": _office_hour,
    "formula": _formula,
    "title": _title,
    "person": lambda rng: _same(
        f"{rng.choice(_FIRST)} {rng.choice(_LAST)}" if rng.random() < 0.6 else rng.choice(_FIRST)
    ),
    "room": lambda rng: _same(rng.choice(_ROOMS)),
    "id": lambda rng: (lambda n: Entity(str(n), n))(rng.randrange(1, 30)),
}
