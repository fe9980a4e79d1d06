"""Facts about countries, currencies and languages, from GeoNames, ISO lists and CLDR."""

from collections import Counter
from functools import cache
from typing import Annotated

import pycountry
from babel import Locale, UnknownLocaleError
from babel.numbers import get_currency_name, get_currency_symbol
from fastapi import FastAPI, Path, Query
from pydantic import BaseModel

from examples.tools import places
from examples.tools.matching import ForgivingEnum, look_up, normalize
from examples.tools.parameters import CountryPath, Limit
from examples.tools.service import new_router, new_service

router = new_router()

CONTINENT_NAMES = {
    "AF": "Africa",
    "AN": "Antarctica",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
# Bare names that many currencies share, and which one people mean by them.
CURRENCY_ALIASES = {
    "dollar": "USD",
    "buck": "USD",
    "pound": "GBP",
    "sterling": "GBP",
    "franc": "CHF",
    "rupee": "INR",
    "peso": "MXN",
    "won": "KRW",
    "yuan": "CNY",
    "renminbi": "CNY",
    "rmb": "CNY",
    "real": "BRL",
    "ruble": "RUB",
    "krona": "SEK",
    "krone": "NOK",
    "rand": "ZAR",
}
LANGUAGE_ALIASES = {"mandarin": "zh", "farsi": "fa", "castilian": "es", "flemish": "nl"}


class Continent(ForgivingEnum):
    """The continents that have countries."""

    AFRICA = "Africa"
    ASIA = "Asia"
    EUROPE = "Europe"
    NORTH_AMERICA = "North America"
    OCEANIA = "Oceania"
    SOUTH_AMERICA = "South America"


class Measure(ForgivingEnum):
    """What countries are ranked by."""

    POPULATION = "population"
    AREA = "area"


class CountryFacts(BaseModel):
    country: str
    capital: str | None = None
    continent: str
    population: int
    area_km2: float
    currency: str | None = None
    languages: list[str]
    calling_code: str | None = None


class Neighbours(BaseModel):
    country: str
    count: int
    neighbours: list[str]


class RankedCountry(BaseModel):
    country: str
    population: int | None = None
    area_km2: float | None = None


class LargestCountries(BaseModel):
    continent: str
    by: str
    countries: list[RankedCountry]


class CurrencyFacts(BaseModel):
    code: str
    name: str
    symbol: str
    countries_count: int
    countries: list[str]


class LanguageFacts(BaseModel):
    language: str
    code: str
    native_name: str | None = None


def _language_names(codes: tuple[str, ...], limit: int = 4) -> list[str]:
    english = Locale("en").languages
    bases = (code.partition("-")[0] for code in codes)
    return list(dict.fromkeys(english[base] for base in bases if base in english))[:limit]


@cache
def _currency_index() -> dict[str, str]:
    """Normalized code or name -> ISO code, including a bare last word ("yen") that only one currency has."""
    index = {normalize(currency.alpha_3): currency.alpha_3 for currency in pycountry.currencies}
    index |= CURRENCY_ALIASES | {f"{name}s": code for name, code in CURRENCY_ALIASES.items()}
    last_words: Counter[str] = Counter()
    names: dict[str, str] = {}
    for code in {currency.alpha_3 for currency in pycountry.currencies}:
        spellings = {normalize(get_currency_name(code, count=count, locale="en")) for count in (None, 1, 2)}
        spellings.add(normalize(pycountry.currencies.get(alpha_3=code).name))
        names |= dict.fromkeys(spellings, code)
        last_words.update({spelling.split()[-1] for spelling in spellings})
    for name, code in names.items():
        index.setdefault(name, code)
        if last_words[name.split()[-1]] == 1:
            index.setdefault(name.split()[-1], code)
    return index


@cache
def _language_index() -> dict[str, str]:
    """Normalized name or code -> the shortest ISO 639 code."""
    english = Locale("en").languages
    records = [(getattr(record, "alpha_2", record.alpha_3), record) for record in pycountry.languages]
    index: dict[str, str] = {}
    for code, record in records:
        index |= dict.fromkeys((normalize(record.name), normalize(code), normalize(record.alpha_3)), code)
    for code, _ in records:
        if code in english:
            index.setdefault(normalize(english[code]), code)
    return index | LANGUAGE_ALIASES


def _native_name(code: str) -> str | None:
    try:
        return Locale(code).languages.get(code)
    except UnknownLocaleError:
        return None


@router.get(
    "/countries/{country}", operation_id="country_facts", summary="Capital, population, area, currency of a country"
)
def country_facts(country: CountryPath) -> CountryFacts:
    """Basic facts about a country, nation or state: its capital city, which continent it is on, how many
    people live there (population, inhabitants), how big it is (area, size, square kilometres), what money it
    uses (currency, pay), what languages people speak, and its phone prefix (calling code, dialling code). The
    seat of government; people per square kilometre need its population and area."""
    found = places.find_country(country)
    return CountryFacts(
        country=found.name,
        capital=found.capital or None,
        continent=CONTINENT_NAMES[found.continent_code],
        population=found.population,
        area_km2=found.area_km2,
        currency=found.currency or None,
        languages=_language_names(found.language_codes),
        calling_code=f"+{found.calling_code.removeprefix('+')}" if found.calling_code else None,
    )


@router.get(
    "/countries/{country}/neighbours", operation_id="country_neighbours", summary="Countries that border a country"
)
def country_neighbours(country: CountryPath) -> Neighbours:
    """Which countries border this one: its neighbours, neighboring or adjacent nations that share a land
    border or frontier, next to it, and how many of them there are. An island has none."""
    found = places.find_country(country)
    names = sorted(places.countries()[code].name for code in found.neighbour_codes if code in places.countries())
    return Neighbours(country=found.name, count=len(names), neighbours=names)


@router.get(
    "/continents/{continent}/countries",
    operation_id="largest_countries",
    summary="Largest countries of a continent, by population or area",
)
def largest_countries(
    continent: Annotated[Continent, Path(description="continent name")],
    by: Annotated[Measure, Query(description="population or area")] = Measure.POPULATION,
    limit: Limit = 3,
) -> LargestCountries:
    """The biggest, largest or most populous countries of a continent such as Africa, Asia or Europe: a top
    list ranked by how many people live there (population) or by how big they are (area, size)."""
    members = [c for c in places.countries().values() if CONTINENT_NAMES[c.continent_code] == continent.value]
    if by is Measure.POPULATION:
        members.sort(key=lambda member: -member.population)
        ranked = [RankedCountry(country=member.name, population=member.population) for member in members[:limit]]
    else:
        members.sort(key=lambda member: -member.area_km2)
        ranked = [RankedCountry(country=member.name, area_km2=member.area_km2) for member in members[:limit]]
    return LargestCountries(continent=continent.value, by=by.value, countries=ranked)


@router.get("/currencies/{currency}", operation_id="currency_facts", summary="Code, symbol and countries of a currency")
def currency_facts(
    currency: Annotated[str, Path(description="currency code or name", max_length=80)],
) -> CurrencyFacts:
    """What a currency or money is: its three-letter ISO code, full name, symbol or sign (such as € or $), and
    which and how many countries use or pay with it. Ask by code (EUR) or by name (euro, yen, dollar)."""
    index = _currency_index()
    code = look_up("currency", currency, index, (name for name in index if len(name) > 3))
    users = sorted((c for c in places.countries().values() if c.currency == code), key=lambda c: -c.population)
    return CurrencyFacts(
        code=code,
        name=get_currency_name(code, locale="en"),
        symbol=get_currency_symbol(code, locale="en"),
        countries_count=len(users),
        countries=[user.name for user in users[:5]],
    )


@router.get("/languages/{language}", operation_id="language_facts", summary="ISO code and native name of a language")
def language_facts(
    language: Annotated[str, Path(description="language name or code", max_length=80)],
) -> LanguageFacts:
    """The ISO 639 language code of a language or tongue, and its native name: what its own speakers call it,
    how it is written in itself (German is Deutsch). Ask by English name (French) or by code (fr)."""
    code = look_up("language", language, _language_index(), Locale("en").languages.values())
    record = pycountry.languages.get(alpha_2=code) if len(code) == 2 else pycountry.languages.get(alpha_3=code)
    name = Locale("en").languages.get(code, record.name)
    return LanguageFacts(language=name, code=code, native_name=_native_name(code))


def create_app() -> FastAPI:
    """The countries service."""
    return new_service("Countries", "Facts about countries, currencies and languages.", router)
