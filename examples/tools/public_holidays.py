"""Public holidays of countries, from the holidays package (national ones; regional ones are left out)."""

from datetime import date
from functools import cache
from typing import Annotated

import holidays
from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel

from examples.tools import places
from examples.tools.matching import close_names, normalize
from examples.tools.parameters import FIRST_YEAR, LAST_YEAR, CountryPath, ModernDatePath, ModernDateQuery
from examples.tools.service import new_router, new_service

router = new_router()

# Where most holidays are regional, the region whose calendar people mean by the country.
USUAL_REGIONS = {"GB": "ENG"}
YearQuery = Annotated[int, Query(description="year", ge=FIRST_YEAR, le=LAST_YEAR)]


class HolidayOn(BaseModel):
    country: str
    date: date
    is_holiday: bool
    name: str | None = None


class NamedHoliday(BaseModel):
    country: str
    name: str
    date: date


class HolidayCount(BaseModel):
    country: str
    year: int
    count: int


@cache
def _english_for(code: str) -> str | None:
    """The English variant a calendar offers, its own default first; None means its default language."""
    calendar = holidays.country_holidays(code)
    offered = (calendar.default_language, *calendar.supported_languages)
    return next((language for language in offered if language and language.startswith("en")), None)


@cache
def _calendar(code: str, year: int) -> dict[date, str]:
    """The holidays of one year in date order."""
    found = holidays.country_holidays(code, subdiv=USUAL_REGIONS.get(code), years=year, language=_english_for(code))
    return dict(sorted(found.items()))


def _calendar_country(name: str) -> places.Country:
    country = places.find_country(name)
    if country.code not in holidays.list_supported_countries():
        raise HTTPException(status_code=404, detail=f"No holiday calendar for {country.name}.")
    return country


@router.get(
    "/holidays/{country}/on/{date}", operation_id="holiday_on", summary="Whether a date is a public holiday, and which"
)
def holiday_on(country: CountryPath, day: ModernDatePath) -> HolidayOn:
    """Is this date or day a public holiday (bank holiday, national holiday, day off) in a country, and if so
    which holiday it is, what is celebrated."""
    found = _calendar_country(country)
    name = _calendar(found.code, day.year).get(day)
    return HolidayOn(country=found.name, date=day, is_holiday=name is not None, name=name)


@router.get("/holidays/{country}/next", operation_id="next_holiday", summary="Next public holiday after a date")
def next_holiday(country: CountryPath, after: ModernDateQuery) -> NamedHoliday:
    """The next, coming or upcoming public holiday (bank holiday, national holiday, day off) of a country after
    a given date: its name and when it is."""
    found = _calendar_country(country)
    for year in (after.year, after.year + 1):
        for day, name in _calendar(found.code, year).items():
            if day > after:
                return NamedHoliday(country=found.name, name=name, date=day)
    raise HTTPException(status_code=404, detail=f"No holiday of {found.name} is known after {after}.")


@router.get("/holidays/{country}/find", operation_id="find_holiday", summary="Date of a named public holiday in a year")
def find_holiday(
    country: CountryPath,
    year: YearQuery,
    name: Annotated[str, Query(description="holiday name", min_length=2, max_length=80)],
) -> NamedHoliday:
    """When a named public holiday is in a country in a year: what date or day it falls on. Easter, Christmas,
    Thanksgiving, Labor Day, Independence or National Day, Pentecost, Holy Saturday, Midsummer, a Saint's feast, a
    Revolution. Part of the name is enough."""
    found = _calendar_country(country)
    calendar = _calendar(found.code, year)
    wanted = normalize(name)
    close = close_names(name, calendar.values())
    # From the surest kind of match to the loosest; within a kind the earliest date wins.
    tests = (
        lambda spelled, _: spelled in (wanted, f"{wanted} day"),
        lambda spelled, _: wanted in spelled and "observed" not in spelled,
        lambda spelled, _: wanted in spelled,
        lambda _, full: full in close,
    )
    for matches in tests:
        for day, full in calendar.items():
            if matches(normalize(full), full):
                return NamedHoliday(country=found.name, name=full, date=day)
    known = ", ".join(list(dict.fromkeys(calendar.values()))[:4])
    detail = f"No holiday named '{name.strip()}' in {found.name} in {year}. Some that exist: {known}."
    raise HTTPException(status_code=404, detail=detail)


@router.get("/holidays/{country}/count", operation_id="count_holidays", summary="Number of public holidays in a year")
def count_holidays(country: CountryPath, year: YearQuery) -> HolidayCount:
    """How many public holidays (bank holidays, national holidays, days off) a country has in a year: the
    number or count of them."""
    found = _calendar_country(country)
    # A day off in lieu of a holiday on a weekend is the same holiday again.
    names = [name for name in _calendar(found.code, year).values() if "(observed)" not in name]
    return HolidayCount(country=found.name, year=year, count=len(names))


def create_app() -> FastAPI:
    """The holidays service."""
    return new_service("Holidays", "Public holidays of countries.", router)
