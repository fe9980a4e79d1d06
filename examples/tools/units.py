"""Unit conversion, by pint."""

import math
import re
from functools import cache

import pint
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from examples.tools.matching import close_names, unknown_name
from examples.tools.service import new_router, new_service

router = new_router()

# What people write where pint reads something else (F is farad, C coulomb) or nothing at all.
ALIASES = {
    "C": "degC",
    "F": "degF",
    "K": "kelvin",
    "centigrade": "degC",
    "gal": "gallon",
    "kmh": "km/hour",
    "kph": "km/hour",
    "kg/h": "kg/hour",
    "lbs": "pound",
    "kilo": "kilogram",
    "kilos": "kilogram",
    "sqm": "meter**2",
    "sqft": "foot**2",
    "cc": "centimeter**3",
    "fl oz": "fluid_ounce",
    "ton": "metric_ton",
    "tons": "metric_ton",
    "cal": "calorie",
}
COMMON_UNITS = (
    "meter kilometer centimeter millimeter mile yard foot inch nautical_mile light_year gram kilogram milligram pound "
    "ounce stone metric_ton liter milliliter gallon pint quart cup tablespoon teaspoon fluid_ounce celsius fahrenheit "
    "kelvin second minute hour day week month year acre hectare square_meter cubic_meter joule kilojoule calorie watt "
    "kilowatt horsepower pascal bar atmosphere psi newton volt ampere byte kilobyte megabyte gigabyte bit degree "
    "knot mph kilometer_per_hour hertz radian"
).split()
_UNIT_TEXT = re.compile(r"[A-Za-zµ°²³_ ./*^23]+")


class Conversion(BaseModel):
    value: float = Field(description="number to convert", allow_inf_nan=False)
    from_unit: str = Field(description="unit to convert from", min_length=1, max_length=40)
    to_unit: str = Field(description="unit to convert to", min_length=1, max_length=40)


class Converted(BaseModel):
    value: float
    from_unit: str
    result: float
    to_unit: str


@cache
def _registry() -> pint.UnitRegistry:
    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True)


def _spellings(text: str) -> list[str]:
    """Ways to write a unit, the likeliest first: 'Light Years' is tried as light_years too."""
    text = re.sub(r"^(degrees?|°)\s*(?=[A-Za-z])", "", " ".join(text.split()), flags=re.IGNORECASE)
    text = text.replace("²", "2").replace("³", "3")
    powered = re.sub(r"(?<=[A-Za-z])\s*\^?\s*([23])\b", r"**\1", text)
    tries = [ALIASES.get(text), ALIASES.get(text.lower())]
    for spelling in (powered, powered.lower()):
        tries += [spelling.replace(" ", "_"), spelling]
    return [spelling for spelling in dict.fromkeys(tries) if spelling]


def find_unit(text: str) -> pint.Unit:
    """The unit with this name or symbol, or a 404."""
    if _UNIT_TEXT.fullmatch(text.strip()):
        for spelling in _spellings(text):
            try:
                return _registry().parse_units(spelling)
            except (pint.errors.PintError, ValueError, TypeError, AssertionError, AttributeError):
                continue
    suggestions = close_names(text, COMMON_UNITS)
    raise unknown_name("unit", text, suggestions[0].replace("_", " ") if suggestions else None)


def _readable(number: float) -> float:
    """Four decimals, or four significant digits when those would show nothing."""
    return round(number, 4) if abs(number) >= 0.1 else float(f"{number:.4g}")


@router.post("/convert", operation_id="convert_units", summary="A value converted from one unit to another")
def convert_units(body: Conversion) -> Converted:
    """Convert a measurement between units: length (miles to kilometres, feet, inches), weight or mass (pounds
    to kilograms), temperature (Celsius to Fahrenheit), volume (litres, gallons, cups), speed, area, time,
    energy, pressure or data size. How many of one unit are in another: metres, kilometres, yards, nautical miles,
    grams, ounces, stone, pints, millilitres, knots, mph, km/h, acres, hectares, seconds, minutes, hours, days,
    weeks, joules, calories, kWh, kelvin. Also for an altitude, elevation or distance wanted in another unit."""
    start, end = find_unit(body.from_unit), find_unit(body.to_unit)
    try:
        result = _registry().Quantity(body.value, start).to(end).magnitude
    except pint.errors.DimensionalityError as error:
        detail = f"{body.from_unit} cannot be converted to {body.to_unit}: they measure different things."
        raise HTTPException(status_code=422, detail=detail) from error
    except (OverflowError, pint.errors.OffsetUnitCalculusError) as error:
        raise HTTPException(status_code=422, detail="that conversion is not possible") from error
    if not math.isfinite(result):
        raise HTTPException(status_code=422, detail="the result is too large")
    return Converted(value=body.value, from_unit=body.from_unit, result=_readable(result), to_unit=body.to_unit)


def create_app() -> FastAPI:
    """The units service."""
    return new_service("Units", "Conversion between units of measurement.", router)
