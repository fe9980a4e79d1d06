"""Sunrise, sunset and the moon, by astral."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from astral import Observer, moon, sun
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from examples.tools import places
from examples.tools.parameters import CityPath, ModernDatePath
from examples.tools.service import new_router, new_service

router = new_router()

# Astral counts the lunar month as 28 steps; the four exact phases are given one step either side.
ASTRAL_MONTH = 28
SYNODIC_MONTH_DAYS = 29.530588
PHASES = (
    (1, "new moon"),
    (6, "waxing crescent"),
    (8, "first quarter"),
    (13, "waxing gibbous"),
    (15, "full moon"),
    (20, "waning gibbous"),
    (22, "last quarter"),
    (27, "waning crescent"),
    (ASTRAL_MONTH, "new moon"),
)


class SunTimes(BaseModel):
    city: str
    date: date
    sunrise: str
    sunset: str
    day_length: str


class MoonPhase(BaseModel):
    date: date
    phase: str
    age_days: float


def _no_sunrise(city: places.City, observer: Observer, day: date) -> HTTPException:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(city.timezone))
    state = "up all day (polar day)" if sun.elevation(observer, noon) > 0 else "down all day (polar night)"
    return HTTPException(status_code=422, detail=f"In {city.name} the sun is {state} on {day}: no sunrise or sunset.")


@router.get(
    "/sun/{city}/{date}", operation_id="sun_times", summary="Sunrise, sunset and day length in a city on a date"
)
def sun_times(city: CityPath, day: ModernDatePath) -> SunTimes:
    """When the sun rises (sunrise, dawn) and sets (sunset, dusk, when it gets dark) in a city on a date, in
    local time, and how long the day is (day length, hours of daylight)."""
    found = places.find_city(city)
    observer = Observer(latitude=found.latitude, longitude=found.longitude)
    zone = ZoneInfo(found.timezone)
    try:
        rise, fall = sun.sunrise(observer, day, tzinfo=zone), sun.sunset(observer, day, tzinfo=zone)
    except ValueError as error:
        raise _no_sunrise(found, observer, day) from error
    # Far from its zone's meridian a city's sunset can be reported for the neighbouring day.
    minutes = int((fall - rise) % timedelta(days=1) / timedelta(minutes=1))
    return SunTimes(
        city=found.name,
        date=day,
        sunrise=rise.strftime("%H:%M"),
        sunset=fall.strftime("%H:%M"),
        day_length=f"{minutes // 60:02d}:{minutes % 60:02d}",
    )


@router.get("/moon/{date}", operation_id="moon_phase", summary="Phase of the moon on a date")
def moon_phase(day: ModernDatePath) -> MoonPhase:
    """Which phase the moon is in on a date: new moon, full moon, first or last quarter, crescent or gibbous,
    waxing (growing) or waning (shrinking), and its age in days since new moon. What the moon looks like."""
    step = moon.phase(day) % ASTRAL_MONTH
    phase = next(name for end, name in PHASES if step < end)
    return MoonPhase(date=day, phase=phase, age_days=round(step / ASTRAL_MONTH * SYNODIC_MONTH_DAYS, 1))


def create_app() -> FastAPI:
    """The sky service."""
    return new_service("Sky", "Sunrise, sunset and the phases of the moon.", router)
