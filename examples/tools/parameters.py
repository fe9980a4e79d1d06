"""Parameter types that several services share."""

import re
from datetime import date
from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, BeforeValidator

from examples.tools.matching import ForgivingEnum

FIRST_YEAR, LAST_YEAR = 1950, 2100
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def _require_iso_date(value: object) -> object:
    """Pydantic alone would also take timestamps such as '20260504', which are almost always mistakes."""
    if isinstance(value, date):
        return value
    if not isinstance(value, str) or not _ISO_DATE.fullmatch(value.strip()):
        raise ValueError("expected YYYY-MM-DD")
    try:
        return date.fromisoformat(value.strip())
    except ValueError as error:
        raise ValueError(f"{value.strip()} is not a day in the calendar") from error


def _require_modern(day: date) -> date:
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"the year must be between {FIRST_YEAR} and {LAST_YEAR}")
    return day


IsoDate = Annotated[date, BeforeValidator(_require_iso_date)]
# The alias lets functions call the parameter "day", so that it does not hide the type "date".
DatePath = Annotated[IsoDate, Path(alias="date", description="date as YYYY-MM-DD")]
ModernDatePath = Annotated[DatePath, AfterValidator(_require_modern)]
DayQuery = Annotated[IsoDate, Query(alias="date", description="date as YYYY-MM-DD")]
DateQuery = Annotated[IsoDate, Query(description="date as YYYY-MM-DD")]
ModernDateQuery = Annotated[DateQuery, AfterValidator(_require_modern)]
CountryPath = Annotated[str, Path(description="country name or code", max_length=80)]
CityPath = Annotated[str, Path(description="city name", max_length=80)]
Limit = Annotated[int, Query(description="how many to list", ge=1, le=10)]


class DistanceUnit(ForgivingEnum):
    """Units in which distances are told."""

    KM = "km"
    MILES = "miles"


DistanceUnitQuery = Annotated[DistanceUnit, Query(description="km or miles")]
