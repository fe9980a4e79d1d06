"""Time zones, weekdays and counting days."""

import re
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel, Field

from examples.tools import places
from examples.tools.matching import close_names, normalize, unknown_name
from examples.tools.parameters import DatePath, DateQuery, DayQuery
from examples.tools.service import new_router, new_service

router = new_router()

TIME_FORMAT = "%Y-%m-%d %H:%M"
ABBREVIATIONS = {
    "pst": "America/Los_Angeles",
    "pdt": "America/Los_Angeles",
    "mdt": "America/Denver",
    "cst": "America/Chicago",
    "cdt": "America/Chicago",
    "edt": "America/New_York",
    "est": "America/New_York",
    "bst": "Europe/London",
    "cest": "Europe/Paris",
    "jst": "Asia/Tokyo",
    "ist": "Asia/Kolkata",
}
# "UTC+2" is the zone Etc/GMT-2: POSIX counts the other way round.
_UTC_OFFSET = re.compile(r"(?:UTC|GMT)([+-])0?(\d{1,2})", re.IGNORECASE)
ZoneQuery = Annotated[str, Query(description="timezone like Europe/Paris, or city", max_length=80)]


class CurrentTime(BaseModel):
    timezone: str
    date: str
    time: str
    weekday: str


class TimeToConvert(BaseModel):
    time: str = Field(description="time as YYYY-MM-DD HH:MM", max_length=40)
    from_timezone: str = Field(description="timezone or city it is in", max_length=80)
    to_timezone: str = Field(description="timezone or city to convert to", max_length=80)


class ConvertedTime(BaseModel):
    time: str
    timezone: str
    weekday: str


class TimeDifference(BaseModel):
    hours: float
    from_timezone: str
    to_timezone: str


class Weekday(BaseModel):
    date: date
    weekday: str


class DaysBetween(BaseModel):
    start: date
    end: date
    days: int


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime"})


@cache
def _zone_index() -> dict[str, str]:
    """Normalized zone name, or its last part ("tokyo"), -> zone name."""
    # Normalized names lose their signs, so zones such as Etc/GMT+2 only go by their exact name.
    zones = sorted(zone for zone in _zone_names() if not re.search(r"[+-]\d", zone))
    index = {normalize(zone): zone for zone in zones}
    for zone in zones:
        if not zone.startswith(("posix/", "right/", "Etc/")):
            index.setdefault(normalize(zone.rpartition("/")[2]), zone)
    return index | ABBREVIATIONS


def find_zone(name: str) -> ZoneInfo:
    """The zone with this name, or the zone of the city with this name, or a 404."""
    exact = name.strip()
    if offset := _UTC_OFFSET.fullmatch(exact):
        exact = f"Etc/GMT{'-' if offset[1] == '+' else '+'}{offset[2]}"
    zone = exact if exact in _zone_names() else _zone_index().get(normalize(name))
    if zone is None:
        try:
            zone = places.find_city(name).timezone
        except HTTPException as error:
            suggestions = close_names(name, _zone_index().values())
            raise unknown_name("timezone", name, suggestions[0] if suggestions else None) from error
    return ZoneInfo(zone)


def _offset_hours(day: date, zone: ZoneInfo) -> float:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=zone)
    return (noon.utcoffset() or timedelta()).total_seconds() / 3600


@router.get("/now", operation_id="current_time", summary="Current date, time and weekday in a timezone or city")
def current_time(timezone: ZoneQuery) -> CurrentTime:
    """What time it is now, the current local time, today's date and which day of the week it is, in a time
    zone or city."""
    zone = find_zone(timezone)
    now = datetime.now(UTC).astimezone(zone)
    return CurrentTime(
        timezone=zone.key, date=now.date().isoformat(), time=now.strftime("%H:%M"), weekday=now.strftime("%A")
    )


@router.post("/convert", operation_id="convert_time", summary="A time converted from one timezone to another")
def convert_time(body: TimeToConvert) -> ConvertedTime:
    """Convert a date and time of day from one time zone or city to another: what time it is there when it is
    this time here, for meetings and calls across time zones."""
    try:
        naive = datetime.strptime(body.time.strip().replace("T", " "), TIME_FORMAT)
    except ValueError as error:
        raise HTTPException(status_code=422, detail="time: expected YYYY-MM-DD HH:MM") from error
    start, zone = find_zone(body.from_timezone), find_zone(body.to_timezone)
    try:
        moment = naive.replace(tzinfo=start).astimezone(zone)
    except OverflowError as error:
        raise HTTPException(status_code=422, detail="time is outside the calendar") from error
    return ConvertedTime(time=moment.strftime(TIME_FORMAT), timezone=zone.key, weekday=moment.strftime("%A"))


@router.get("/difference", operation_id="time_difference", summary="Hours between two timezones or cities on a date")
def time_difference(from_timezone: ZoneQuery, to_timezone: ZoneQuery, day: DayQuery) -> TimeDifference:
    """How many hours ahead or behind one time zone or city is of another on a date: the time difference, to
    minus from. Positive means the second is ahead; summer time (daylight saving) is counted."""
    start, end = find_zone(from_timezone), find_zone(to_timezone)
    hours = round(_offset_hours(day, end) - _offset_hours(day, start), 2)
    return TimeDifference(hours=hours, from_timezone=start.key, to_timezone=end.key)


@router.get("/weekdays/{date}", operation_id="weekday", summary="Day of the week of a date")
def weekday(day: DatePath) -> Weekday:
    """Which day of the week (Monday, Tuesday, ... Sunday) a date is, was or will be, falls on."""
    return Weekday(date=day, weekday=day.strftime("%A"))


@router.get("/days", operation_id="days_between", summary="Number of days between two dates")
def days_between(start: DateQuery, end: DateQuery) -> DaysBetween:
    """How many days lie between two dates, how long it is from one date until another, days left or elapsed.
    Negative when the end is before the start."""
    return DaysBetween(start=start, end=end, days=(end - start).days)


@router.get("/shift", operation_id="add_days", summary="Date and weekday some days after or before a date")
def add_days(
    day: DayQuery,
    days: Annotated[int, Query(description="days to add, may be negative", ge=-100_000, le=100_000)],
) -> Weekday:
    """Add or subtract days from a date: what date it is a number of days later, from now, after, or (negative)
    earlier, before, ago; with its weekday."""
    try:
        shifted = day + timedelta(days=days)
    except OverflowError as error:
        raise HTTPException(status_code=422, detail="the resulting date is outside the calendar") from error
    return Weekday(date=shifted, weekday=shifted.strftime("%A"))


def create_app() -> FastAPI:
    """The clock service."""
    return new_service("Clock", "Time zones, weekdays and counting days.", router)
