"""Cities of the world with at least 15000 people, and the distances between them, from GeoNames."""

from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema

from examples.tools import places
from examples.tools.parameters import CityPath, CountryPath, DistanceUnit, DistanceUnitQuery, Limit
from examples.tools.service import new_router, new_service

router = new_router()


class CityFacts(BaseModel):
    city: str
    country: str
    population: int
    latitude: float
    longitude: float
    timezone: str


class CityDistance(BaseModel):
    from_city: str
    to_city: str
    distance: float
    unit: str


class RankedCity(BaseModel):
    city: str
    population: int


class LargestCities(BaseModel):
    country: str
    cities: list[RankedCity]


class NearestCity(BaseModel):
    city: str
    country: str
    distance_km: float


@router.get(
    "/cities/{city}", operation_id="city_facts", summary="Country, population, coordinates and timezone of a city"
)
def city_facts(
    city: CityPath,
    country: Annotated[str | SkipJsonSchema[None], Query(description="country, if ambiguous", max_length=80)] = None,
) -> CityFacts:
    """Facts about a city or town: which country, nation or state it is in (belongs to, lies in, is part of, is
    situated in), how many people live there (population, inhabitants, residents), where it is (location,
    latitude and longitude, coordinates) and its time zone.
    When several cities share a name the most populous one is meant, unless a country is given."""
    found = places.find_city(city, country)
    return CityFacts(
        city=found.name,
        country=found.country_name,
        population=found.population,
        latitude=round(found.latitude, 4),
        longitude=round(found.longitude, 4),
        timezone=found.timezone,
    )


@router.get("/distance", operation_id="city_distance", summary="Distance between two cities, in km or miles")
def city_distance(
    from_city: Annotated[str, Query(description="first city name", max_length=80)],
    to_city: Annotated[str, Query(description="second city name", max_length=80)],
    unit: DistanceUnitQuery = DistanceUnit.KM,
) -> CityDistance:
    """How far apart two cities or towns are: how far it is from one to the other as the crow flies, the
    straight-line or great-circle distance, in kilometres or miles. Which city is nearest, closest or farther."""
    start, end = places.find_city(from_city), places.find_city(to_city)
    kilometres = places.distance_km(start.latitude, start.longitude, end.latitude, end.longitude)
    return CityDistance(
        from_city=start.name, to_city=end.name, distance=places.in_unit(kilometres, unit), unit=unit.value
    )


@router.get(
    "/countries/{country}/cities", operation_id="largest_cities", summary="Largest cities of a country, by population"
)
def largest_cities(country: CountryPath, limit: Limit = 3) -> LargestCities:
    """The biggest, largest or most populous cities and towns of a country, top first, each with how many
    people live there (population, inhabitants)."""
    found = places.find_country(country)
    largest = [city for city in places.cities() if city.country_code == found.code][:limit]
    return LargestCities(
        country=found.name, cities=[RankedCity(city=city.name, population=city.population) for city in largest]
    )


@router.get("/nearest", operation_id="nearest_city", summary="City nearest to a latitude and longitude")
def nearest_city(
    latitude: Annotated[float, Query(description="latitude in degrees", ge=-90, le=90)],
    longitude: Annotated[float, Query(description="longitude in degrees", ge=-180, le=180)],
) -> NearestCity:
    """Which city or town is nearest or closest to a point on the map given by its coordinates (latitude and
    longitude, position, GPS), in which country it lies, and how far away it is."""

    def away(city: places.City) -> float:
        return places.distance_km(latitude, longitude, city.latitude, city.longitude)

    nearest = min(places.cities(), key=away)
    return NearestCity(city=nearest.name, country=nearest.country_name, distance_km=round(away(nearest), 1))


def create_app() -> FastAPI:
    """The cities service."""
    return new_service("Cities", "Cities of the world and the distances between them.", router)
