"""What each intent takes to answer: programs that ask tools and say what they found.

A program is a generator. It yields `Ask`s, is sent the tool's JSON answer, adds what it learnt to its `notes`, and returns
a `Found`. Whoever drives it turns asks and notes into planner rationales, so a program never speaks of turns. Programs
nest: a slot of one may be filled by another, which makes chains of dependent calls.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from training.tasks.entities import Entity

Json = dict[str, Any]


class NotTold(Exception):
    """A tool answered, but without the field that the question is about."""


@dataclass(frozen=True)
class Ask:
    """One tool call and, in words, what it is to find."""

    need: str
    tool: str
    arguments: Json


@dataclass(frozen=True)
class Found:
    """A program's result: a value others can use, the answer, and what a right answer must contain."""

    value: Any
    answer: str
    expected: tuple[str, ...]
    rivals: tuple[str, ...] = ()
    """Names that must not come before the expected one (comparisons)."""


@dataclass(frozen=True)
class Nested:
    """A slot filled by another program: 'the capital of Japan'."""

    intent: str
    slots: Mapping[str, "Slot"]


Slot = Entity | Nested
Notes = list[str]
Program = Generator[Ask, Json, Found]
Values = dict[str, Any]


@dataclass(frozen=True)
class Intent:
    """A kind of question: its slots (name to entity kind) and the program that answers it."""

    name: str
    slots: dict[str, str]
    run: Callable[[Values, Notes], Program]
    nests: tuple[str, ...] = ()
    """Slots that may be filled by another program."""
    is_effect: bool = False
    """Whether it is right when the right call was made (it changes state, or its answer changes with time)."""


INTENTS: dict[str, Intent] = {}
_NESTABLE = {"city", "country", "date", "currency", "element", "zone"}


def answer(intent: str, slots: Mapping[str, Slot], notes: Notes) -> Program:
    """The program of an intent with its nested slots resolved first, in order."""
    values: Values = {}
    for name, slot in slots.items():
        if isinstance(slot, Nested):
            values[name] = (yield from answer(slot.intent, slot.slots, notes)).value
        else:
            values[name] = slot.value
    return (yield from INTENTS[intent].run(values, notes))


def _add(name: str, slots: str, run: Callable[[Values, Notes], Program], effect: bool = False) -> None:
    kinds = dict(part.split(":") if ":" in part else (part, part) for part in slots.split())
    nests = tuple(slot for slot, kind in kinds.items() if kind in _NESTABLE)
    INTENTS[name] = Intent(name, kinds, run, nests, effect)


def text_of(value: Any) -> str:
    """A JSON value as an answer says it: lists joined, whole floats without their point."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float() if value == int(value) and abs(value) < 1e15:
            return str(int(value))
        case list():
            return ", ".join(map(text_of, value))
        case _:
            return str(value)


def _fact(
    name: str, slots: str, tool: str, arguments: str, need: str, found: str, read: str | Callable[[Json], Any],
    effect: bool = False,
) -> None:  # fmt: skip
    """An intent that one call answers.

    `arguments` is `argument=slot` pairs (`argument` alone when both are called alike, `argument='literal'`); `need` and
    `found` are formatted with the slots, and `found` also with `value`, which is what `read` takes from the answer.
    """

    def run(values: Values, notes: Notes) -> Program:
        values = _derived(values)
        sent: Json = {}
        for part in arguments.split():
            argument, _, source = part.partition("=")
            sent[argument] = _literal(source) if source.startswith("'") else values[source or argument]
        reply = yield Ask(need.format(**values), tool, sent)
        try:
            value = reply[read] if isinstance(read, str) else read(reply)
        except KeyError as error:
            raise NotTold from error
        statement = found.format(**{**values, "reply": reply, "value": text_of(value)})
        notes.append(statement)
        expected = tuple(map(text_of, value)) if isinstance(value, list) else (text_of(value),)
        return Found(value, statement, expected)

    _add(name, slots, run, effect=effect)


def _literal(source: str) -> str | int:
    text = source.strip("'")
    return int(text) if text.isdigit() else text


def _derived(values: Values) -> Values:
    """The slots, and what a tool wants to be told in another form."""
    more: Values = {}
    if "days" in values:
        more["minus"] = -values["days"]
    if "time" in values:
        more["stamp"] = f"{values['date']} {values['time']}"
    if "value" in values:
        more["amount"] = values["value"]
    return {**values, **more}


_fact("capital", "country", "country_facts", "country", "the capital of {country}", "The capital of {country} is {value}.", "capital")
_fact("country_population", "country", "country_facts", "country", "the population of {country}", "{country} has {value} people.", "population")
_fact("country_area", "country", "country_facts", "country", "the area of {country}", "The area of {country} is {value} square km.", "area_km2")
_fact("country_currency", "country", "country_facts", "country", "the currency of {country}", "The currency of {country} is {value}.", "currency")
_fact("country_languages", "country", "country_facts", "country", "the languages of {country}", "The languages of {country} are {value}.", "languages")
_fact("calling_code", "country", "country_facts", "country", "the calling code of {country}", "The calling code of {country} is {value}.", "calling_code")
_fact("continent", "country", "country_facts", "country", "the continent of {country}", "{country} is in {value}.", "continent")
_fact("neighbours", "country", "country_neighbours", "country", "the neighbours of {country}", "{country} borders {value}.", lambda r: r["neighbours"] or ["no other country"])
_fact("neighbours_count", "country", "country_neighbours", "country", "the number of neighbours of {country}", "{country} borders {value} countries.", "count")
_fact("largest_countries_population", "continent limit", "largest_countries", "continent by='population' limit", "the {limit} countries of {continent} with the largest population", "The {limit} most populous countries of {continent} are {value}.", lambda r: [c["country"] for c in r["countries"]])
_fact("largest_countries_area", "continent limit", "largest_countries", "continent by='area' limit", "the {limit} countries of {continent} with the largest area", "The {limit} largest countries of {continent} are {value}.", lambda r: [c["country"] for c in r["countries"]])
_fact("currency_name", "currency", "currency_facts", "currency", "the name of {currency}", "{currency} is the {value}.", "name")
_fact("currency_symbol", "currency", "currency_facts", "currency", "the symbol of {currency}", "The symbol of {currency} is {value}.", "symbol")
_fact("currency_users", "currency", "currency_facts", "currency", "the number of countries that use {currency}", "{currency} is used by {value} countries.", "countries_count")
_fact("language_code", "language", "language_facts", "language", "the ISO code of {language}", "The ISO code of {language} is {value}.", "code")
_fact("language_native", "language", "language_facts", "language", "the native name of {language}", "{language} calls itself {value}.", "native_name")
_fact("city_country", "city", "city_facts", "city", "the country of {city}", "{city} is in {value}.", "country")
_fact("city_population", "city", "city_facts", "city", "the population of {city}", "{city} has {value} people.", "population")
_fact("city_coordinates", "city", "city_facts", "city", "the coordinates of {city}", "{city} lies at latitude {reply[latitude]}, longitude {reply[longitude]}.", lambda r: [r["latitude"], r["longitude"]])
_fact("city_timezone", "city", "city_facts", "city", "the time zone of {city}", "The time zone of {city} is {value}.", "timezone")
_fact("distance", "a:city b:city unit", "city_distance", "from_city=a to_city=b unit", "the distance from {a} to {b} in {unit}", "The distance from {a} to {b} is {value} {unit}.", "distance")
_fact("distance_plain", "a:city b:city", "city_distance", "from_city=a to_city=b", "the distance from {a} to {b}", "The distance from {a} to {b} is {value} km.", "distance")
_fact("largest_cities", "country limit", "largest_cities", "country limit", "the {limit} largest cities of {country}", "The {limit} largest cities of {country} are {value}.", lambda r: [c["city"] for c in r["cities"]])
_fact("largest_city", "country", "largest_cities", "country limit='1'", "the largest city of {country}", "The largest city of {country} is {value}.", lambda r: r["cities"][0]["city"])
_fact("nearest_city", "lat:latitude lon:longitude", "nearest_city", "latitude=lat longitude=lon", "the city nearest to latitude {lat}, longitude {lon}", "The nearest city is {value} in {reply[country]}.", "city")
_fact("airport_city", "code:airport", "airport_facts", "code", "the city of airport {code}", "{code} serves {value}.", "city")
_fact("airport_country", "code:airport", "airport_facts", "code", "the country of airport {code}", "{code} is in {value}.", "country")
_fact("airport_name", "code:airport", "airport_facts", "code", "the name of airport {code}", "{code} is {value}.", "name")
_fact("airport_elevation", "code:airport", "airport_facts", "code", "the elevation of airport {code}", "{code} lies at {value} feet.", "elevation_ft")
_fact("airports_of_city", "city", "airports_of_city", "city", "the airports of {city}", "The airports of {city}: {value}.", lambda r: [a["code"] for a in r["airports"]])
_fact("airport_distance", "a:airport b:airport unit", "airport_distance", "code=a other=b unit", "the distance from airport {a} to airport {b} in {unit}", "The distance from {a} to {b} is {value} {unit}.", "distance")
_fact("element_number", "element", "element_facts", "element", "the atomic number of {element}", "The atomic number of {element} is {value}.", "number")
_fact("element_symbol", "element", "element_facts", "element", "the symbol of {element}", "The symbol of {element} is {value}.", "symbol")
_fact("element_mass", "element", "element_facts", "element", "the atomic mass of {element}", "The atomic mass of {element} is {value}.", "mass")
_fact("element_density", "element", "element_facts", "element", "the density of {element}", "The density of {element} is {value} g/cm3.", "density")
_fact("element_by_number", "number:number_z", "element_by_number", "number", "the element with number {number}", "Element {number} is {value}.", "name")
_fact("molar_mass", "formula", "molar_mass", "formula", "the molar mass of {formula}", "The molar mass of {formula} is {value} g/mol.", "grams_per_mole")
_fact("holiday_on", "country:holiday_country date", "holiday_on", "country date", "whether {date} is a holiday in {country}", "{date} in {country}: {value}.", lambda r: r["name"] if r["is_holiday"] else "not a holiday")
_fact("next_holiday", "country:holiday_country date", "next_holiday", "country after=date", "the next holiday in {country} after {date}", "The next holiday in {country} is {reply[name]} on {value}.", "date")
_fact("find_holiday", "country:paired holiday:paired year", "find_holiday", "country year name=holiday", "the date of {holiday} {year} in {country}", "{holiday} {year} in {country} is on {value}.", "date")
_fact("count_holidays", "country:holiday_country year", "count_holidays", "country year", "the number of holidays in {country} in {year}", "{country} has {value} holidays in {year}.", "count")
_fact("current_time", "place:zone", "current_time", "timezone=place", "the current time in {place}", "In {place} it is {value} on {reply[weekday]}.", "time", effect=True)
_fact("convert_time", "time date a:zone b:zone", "convert_time", "time=stamp from_timezone=a to_timezone=b", "{stamp} in {a} as time in {b}", "In {b} it is then {value}.", "time")
_fact("time_difference", "a:zone b:zone date", "time_difference", "from_timezone=a to_timezone=b date", "the time difference from {a} to {b} on {date}", "From {a} to {b} it is {value} hours.", "hours")
_fact("weekday", "date", "weekday", "date", "the weekday of {date}", "{date} is a {value}.", "weekday")
_fact("days_between", "a:date b:date", "days_between", "start=a end=b", "the days from {a} to {b}", "From {a} to {b} it is {value} days.", "days")
_fact("add_days", "days date", "add_days", "date days", "the date {days} days after {date}", "{days} days after {date} is {value}.", "date")
_fact("subtract_days", "days date", "add_days", "date days=minus", "the date {minus} days from {date}", "{days} days before {date} is {value}.", "date")
_fact("convert_units", "value:amount from:paired to:paired", "convert_units", "value=amount from_unit=from to_unit=to", "{amount} {from} in {to}", "{amount} {from} is {value} {to}.", "result")
_fact("calculate", "expression", "calculate", "expression", "the value of {expression}", "{expression} is {value}.", "result")
_fact("solve_equation", "equation", "solve_equation", "equation", "x in {equation}", "The solutions of {equation}: {value}.", "solutions")
_fact("prime_factors", "number:whole", "prime_factors", "number", "the prime factors of {number}", "The prime factors of {number} are {value}.", "factors")
_fact("is_prime", "number:whole", "prime_factors", "number", "whether {number} is prime", "{number} {value}.", lambda r: "is a prime number" if r["is_prime"] else "is not a prime number")
for _measure, _field in (("mean", "mean"), ("median", "median"), ("total", "total"), ("maximum", "maximum")):
    _fact(_measure, "numbers", "statistics", "numbers", f"the {_measure} of {{numbers}}", f"The {_measure} is {{value}}.", _field)
_fact("sunrise", "city date", "sun_times", "city date", "the sunrise in {city} on {date}", "The sun rises in {city} at {value}.", "sunrise")
_fact("sunset", "city date", "sun_times", "city date", "the sunset in {city} on {date}", "The sun sets in {city} at {value}.", "sunset")
_fact("day_length", "city date", "sun_times", "city date", "the day length in {city} on {date}", "The day in {city} lasts {value} hours.", "day_length")
_fact("moon_phase", "date", "moon_phase", "date", "the moon phase on {date}", "On {date} the phase is {value}.", "phase")
_fact("add_todo", "title", "add_todo", "title", "a way to add the todo {title}", "Added '{title}' as todo {value}.", "id", effect=True)
_fact("add_todo_due", "title date", "add_todo", "title due=date", "a way to add the todo {title} due {date}", "Added '{title}' due {date} as todo {value}.", "id", effect=True)
_fact("list_todos", "", "list_todos", "status='open'", "the open todos", "Open todos: {value}.", lambda r: [t["title"] for t in r["todos"]] or ["none"], effect=True)
_fact("list_done", "", "list_todos", "status='done'", "the done todos", "Done todos: {value}.", lambda r: [t["title"] for t in r["todos"]] or ["none"], effect=True)
_fact("complete_todo", "id", "complete_todo", "id", "a way to mark todo {id} as done", "Todo {id} ('{reply[title]}') is done.", "title", effect=True)
_fact("delete_todo", "id", "delete_todo", "id", "a way to delete todo {id}", "Todo {id} is deleted.", "id", effect=True)
_fact("free_rooms", "date hour", "free_rooms", "date hour", "the rooms free on {date} at {hour}", "Free rooms: {value}.", lambda r: [x["room"] for x in r["rooms"]] or ["none"], effect=True)
_fact("book_room", "room date hour name:person", "book_room", "room date hour name", "a way to book {room} on {date} at {hour} for {name}", "{room} is booked on {date} at {hour}:00 as booking {value}.", "booking_id", effect=True)
_fact("cancel_booking", "id", "cancel_booking", "booking_id=id", "a way to cancel booking {id}", "Booking {id} is cancelled.", "booking_id", effect=True)


def _calculation(expression: str) -> Program:
    reply = yield Ask(f"the value of {expression}", "calculate", {"expression": expression})
    return Found(reply["result"], "", (text_of(reply["result"]),))


def _density(values: Values, notes: Notes) -> Program:
    country = values["country"]
    reply = yield Ask(f"the population and area of {country}", "country_facts", {"country": country})
    people, area = text_of(reply["population"]), text_of(reply["area_km2"])
    notes.append(f"{country} has {people} people on {area} square km.")
    found = yield from _calculation(f"{people} / {area}")
    notes.append(f"{country} has {text_of(found.value)} people per square km.")
    return Found(found.value, notes[-1], found.expected)


def _arithmetic(
    name: str, slots: str, part: tuple[str, str], operator: str, phrase: str
) -> None:
    """An intent that gets one number for each of its slots a and b and calculates with the two."""
    intent, slot = part

    def run(values: Values, notes: Notes) -> Program:
        numbers: list[str] = []
        for key in ("a", "b"):
            numbers.append(text_of((yield from answer(intent, {slot: Entity("", values[key])}, notes)).value))
        found = yield from _calculation(f"{numbers[0]} {operator} {numbers[1]}")
        notes.append(phrase.format(value=text_of(found.value), **values))
        return Found(found.value, notes[-1], found.expected)

    _add(name, slots, run)


_add("population_density", "country", _density)
_arithmetic("population_ratio", "a:country b:country", ("country_population", "country"), "/", "{a} has {value} times as many people as {b}.")
_arithmetic("population_difference", "a:city b:city", ("city_population", "city"), "-", "The difference from {a} to {b} is {value} people.")
_arithmetic("population_total", "a:city b:city", ("city_population", "city"), "+", "{a} and {b} have {value} people together.")
_arithmetic("mass_ratio", "a:element b:element", ("element_mass", "element"), "/", "{a} is {value} times as heavy as {b}.")


def _conversion(value: Any, unit: str, target: str) -> Program:
    reply = yield Ask(
        f"{text_of(value)} {unit} in {target}", "convert_units", {"value": value, "from_unit": unit, "to_unit": target}
    )
    return Found(reply["result"], "", (text_of(reply["result"]),))


def _elevation_metres(values: Values, notes: Notes) -> Program:
    feet = (yield from answer("airport_elevation", {"code": Entity("", values["code"])}, notes)).value
    found = yield from _conversion(feet, "feet", "metres")
    notes.append(f"{values['code']} lies at {text_of(found.value)} metres.")
    return Found(found.value, notes[-1], found.expected)


def _distance_other(values: Values, notes: Notes) -> Program:
    ends = {key: Entity("", values[key]) for key in ("a", "b")}
    kilometres = (yield from answer("distance_plain", ends, notes)).value
    found = yield from _conversion(kilometres, "km", values["unit"])
    notes.append("The distance from {a} to {b} is {value} {unit}.".format(**{**values, "value": text_of(found.value)}))
    return Found(found.value, notes[-1], found.expected)


_add("elevation_metres", "code:airport", _elevation_metres)
_add("distance_other", "a:city b:city unit:far_unit", _distance_other)


def _comparison(name: str, kind: str, slot: str, intent: str, word: str, extra: str = "", lowest: bool = False) -> None:
    """An intent that gets one number for each item and names the item with the greatest (or least)."""

    def run(values: Values, notes: Notes) -> Program:
        numbers: dict[str, Any] = {}
        best = ""
        for item in values["items"]:
            slots: dict[str, Slot] = {slot: Entity("", item)}
            if extra:
                slots[extra] = Entity("", values[extra])
            number = (yield from answer(intent, slots, notes)).value
            if best:
                notes[-1] = _compared(best, item, {**numbers, item: number}, lowest)
            else:
                notes[-1] = f"{item} {text_of(number)}."
            numbers[item] = number
            best = (min if lowest else max)(numbers, key=lambda item: numbers[item])
        notes.append(f"The {word} is {best} with {text_of(numbers[best])}.")
        return Found(best, notes[-1], (best,), tuple(item for item in numbers if item != best))

    _add(name, f"items:{kind}*" + (f" {extra}:{_EXTRA[extra]}" if extra else ""), run)


def _compared(best: str, item: str, numbers: Mapping[str, Any], lowest: bool) -> str:
    """The best item so far beside the next one, and which of the two it is now.

    What a small model can compare: two numbers at a time, side by side and with their digits counted before the verdict.
    """
    (best_digits, best_said), (digits, said) = (_digits(numbers[name]) for name in (best, item))
    verdict = "they are equal"
    if numbers[item] != numbers[best]:
        winner = best if (numbers[best] < numbers[item]) is lowest else item
        verdict = f"{winner} is {'less' if lowest else 'more'}"
    return f"{best} {best_said} has {best_digits} digits, {item} {said} has {digits}: {verdict}."


def _digits(number: float) -> tuple[int, str]:
    """How many digits a number has before its point, and how it is said."""
    return len(str(abs(int(number)))), text_of(number)


_EXTRA = {"a": "city", "year": "year"}
_comparison("compare_city_population", "city", "city", "city_population", "most populous")
_comparison("compare_country_population", "country", "country", "country_population", "most populous")
_comparison("compare_country_area", "country", "country", "country_area", "largest")
_comparison("compare_elevation", "airport", "code", "airport_elevation", "highest")
_comparison("compare_mass", "element", "element", "element_mass", "heaviest")
_comparison("compare_distance", "city", "b", "distance_plain", "nearest", "a", lowest=True)
_comparison("compare_holidays", "holiday_country", "country", "count_holidays", "largest number", "year")


def _add_and_complete(values: Values, notes: Notes) -> Program:
    added = yield from answer("add_todo", {"title": Entity("", values["title"])}, notes)
    return (yield from answer("complete_todo", {"id": Entity("", added.value)}, notes))


def _book_any(values: Values, notes: Notes) -> Program:
    """Books the room asked for or, when the service says that it is taken, the first one it calls free."""
    reply = yield Ask("a way to book {room} on {date} at {hour} for {name}".format(**values), "book_room", dict(values))
    if "error" in reply:
        free = reply["error"].partition("Free rooms: ")[2].rstrip(".").split(", ")[0]
        notes.append(f"{values['room']} is taken, {free} is free.")
        values = {**values, "room": free}
        reply = yield Ask("a way to book {room} on {date} at {hour} for {name}".format(**values), "book_room", dict(values))
    notes.append("{room} is booked on {date} at {hour}:00 as booking {id}.".format(id=reply["booking_id"], **values))
    return Found(reply["booking_id"], notes[-1], (values["room"],))


_add("add_and_complete", "title", _add_and_complete, effect=True)
_add("book_any", "room date hour name:person", _book_any, effect=True)
