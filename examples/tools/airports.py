"""Airports of the world by IATA code, from airportsdata."""

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import airportsdata
from fastapi import FastAPI, HTTPException, Path, Query
from pydantic import BaseModel

from examples.tools import places
from examples.tools.matching import normalize
from examples.tools.parameters import DistanceUnit, DistanceUnitQuery
from examples.tools.service import new_router, new_service

router = new_router()

AirportCode = Annotated[str, Path(description="three-letter IATA code", max_length=20)]
SAME_CITY_KM = 80
LISTED_AIRPORTS = 5


class AirportFacts(BaseModel):
    code: str
    name: str
    city: str
    country: str
    elevation_ft: int
    timezone: str


class ListedAirport(BaseModel):
    code: str
    name: str


class CityAirports(BaseModel):
    city: str
    airports: list[ListedAirport]


class AirportDistance(BaseModel):
    from_code: str
    to_code: str
    distance: float
    unit: str


@dataclass(frozen=True, eq=False)
class Airport:
    """One airport with an IATA code."""

    code: str
    name: str
    city: str
    country_code: str
    elevation_ft: int
    timezone: str
    latitude: float
    longitude: float


@cache
def airports() -> dict[str, Airport]:
    """Every airport by its IATA code."""
    return {
        code: Airport(
            code=code,
            name=entry["name"],
            city=entry["city"],
            country_code=entry["country"],
            elevation_ft=round(entry["elevation"]),
            timezone=entry["tz"],
            latitude=entry["lat"],
            longitude=entry["lon"],
        )
        for code, entry in airportsdata.load("IATA").items()
    }


def find_airport(code: str) -> Airport:
    """The airport with this code, or a 404 that helps when a city was given instead."""
    found = airports().get(code.strip().upper())
    if found is None:
        raise HTTPException(
            status_code=404, detail=f"No airport with code '{code.strip()}'. Codes have three letters, like MAD."
        )
    return found


def _country_name(code: str) -> str:
    country = places.countries().get(code)
    return country.name if country else code


@router.get(
    "/airports/{code}", operation_id="airport_facts", summary="Name, city, country, elevation of an airport by code"
)
def airport_facts(code: AirportCode) -> AirportFacts:
    """Which airport a three-letter IATA code such as JFK or CDG stands for: its name, the city and country it
    serves or is in, its elevation (height, altitude in feet or metres, how high it lies above sea level, the
    highest) and its time zone. Where one lands, takes off or arrives when flying to a code."""
    found = find_airport(code)
    return AirportFacts(
        code=found.code,
        name=found.name,
        city=found.city,
        country=_country_name(found.country_code),
        elevation_ft=found.elevation_ft,
        timezone=found.timezone,
    )


@router.get("/airports", operation_id="airports_of_city", summary="Airports of a city, with their codes")
def airports_of_city(city: Annotated[str, Query(description="city name", max_length=80)]) -> CityAirports:
    """Which airports a city or town has, with their names and three-letter IATA codes: find the airport code
    of a city, where to fly to, the closest airport. International airports come first."""
    found = places.find_city(city)
    names = {normalize(name) for name in (found.name, *found.other_names)}
    away = {
        airport: places.distance_km(found.latitude, found.longitude, airport.latitude, airport.longitude)
        for airport in airports().values()
        if airport.country_code == found.country_code
    }
    near = [airport for airport, kilometres in away.items() if kilometres <= SAME_CITY_KM]
    own = [airport for airport in near if normalize(airport.city) in names] or near
    if not own:
        raise HTTPException(status_code=404, detail=f"No airport within {SAME_CITY_KM} km of {found.name}.")
    own.sort(key=lambda airport: ("International" not in airport.name, away[airport]))
    listed = [ListedAirport(code=airport.code, name=airport.name) for airport in own[:LISTED_AIRPORTS]]
    return CityAirports(city=found.name, airports=listed)


@router.get(
    "/airports/{code}/distance/{other}",
    operation_id="airport_distance",
    summary="Flight distance between two airports by code, in km or miles",
)
def airport_distance(
    code: AirportCode, other: AirportCode, unit: DistanceUnitQuery = DistanceUnit.KM
) -> AirportDistance:
    """How far it is to fly from one airport to another: the flight distance between two three-letter IATA
    codes along the great circle, in kilometres or miles."""
    start, end = find_airport(code), find_airport(other)
    kilometres = places.distance_km(start.latitude, start.longitude, end.latitude, end.longitude)
    return AirportDistance(
        from_code=start.code, to_code=end.code, distance=places.in_unit(kilometres, unit), unit=unit.value
    )


def create_app() -> FastAPI:
    """The airports service."""
    return new_service("Airports", "Airports of the world by IATA code.", router)
