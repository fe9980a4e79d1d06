"""Chemical elements and molar masses, from periodictable."""

import re
from functools import cache
from typing import Annotated

import periodictable
from fastapi import FastAPI, HTTPException, Path
from periodictable.core import Element
from pydantic import BaseModel
from pyparsing import ParseBaseException

from examples.tools.matching import look_up, normalize
from examples.tools.service import new_router, new_service

router = new_router()

SPELLINGS = {"aluminium": "Al", "aluminum": "Al", "sulphur": "S", "sulfur": "S", "caesium": "Cs", "cesium": "Cs"}
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
# Counts of at most four digits keep every mass in a sensible range.
_FORMULA = re.compile(r"(?:[A-Za-z() ]|(?<!\d)\d{1,4}(?!\d))+")


class ElementFacts(BaseModel):
    name: str
    symbol: str
    number: int
    mass: float
    density: float | None = None


class NumberedElement(BaseModel):
    name: str
    symbol: str
    number: int


class MolarMass(BaseModel):
    formula: str
    grams_per_mole: float


@cache
def elements() -> tuple[Element, ...]:
    """Hydrogen to oganesson, in order of atomic number."""
    return tuple(element for element in periodictable.elements if element.number > 0)


@cache
def _index() -> dict[str, Element]:
    index = {normalize(element.name): element for element in elements()}
    index |= {normalize(element.symbol): element for element in elements()}
    return index | {name: periodictable.elements.symbol(symbol) for name, symbol in SPELLINGS.items()}


@router.get(
    "/elements/{element}", operation_id="element_facts", summary="Symbol, atomic number, mass, density of an element"
)
def element_facts(
    element: Annotated[str, Path(description="element name or symbol", max_length=40)],
) -> ElementFacts:
    """Facts about a chemical element such as iron (Fe) or gold (Au): its chemical symbol, atomic number (how
    many protons), atomic mass or weight (how heavy an atom is, lighter or heavier than another), and density in
    grams per cubic centimetre. How the element is abbreviated or written in a reaction or formula."""
    found = look_up("element", element, _index(), (known.name for known in elements()))
    density = found.density
    return ElementFacts(
        name=found.name,
        symbol=found.symbol,
        number=found.number,
        mass=round(found.mass, 3),
        density=None if density is None else round(density, 2),
    )


@router.get("/numbers/{number}", operation_id="element_by_number", summary="Element with an atomic number")
def element_by_number(
    number: Annotated[int, Path(description="atomic number", ge=1, le=118)],
) -> NumberedElement:
    """Which chemical element has this atomic number (number of protons, position in the periodic table)."""
    found = elements()[number - 1]
    return NumberedElement(name=found.name, symbol=found.symbol, number=found.number)


@router.get("/molar-mass/{formula}", operation_id="molar_mass", summary="Molar mass of a chemical formula, in g/mol")
def molar_mass(
    formula: Annotated[str, Path(description="chemical formula like H2O", min_length=1, max_length=60)],
) -> MolarMass:
    """The molar mass, molecular mass or molecular weight of a compound or molecule given by its chemical
    formula such as H2O, CO2 or Ca(OH)2: how many grams one mole weighs."""
    plain = formula.translate(_SUBSCRIPTS).strip()
    problem = HTTPException(
        status_code=422, detail=f"'{plain}' is not a chemical formula; write symbols with capitals, like H2O."
    )
    if not _FORMULA.fullmatch(plain):
        raise problem
    try:
        mass = periodictable.formula(plain).mass
    except (ParseBaseException, ValueError, KeyError, AttributeError) as error:
        raise problem from error
    return MolarMass(formula=plain, grams_per_mole=round(mass, 2))


def create_app() -> FastAPI:
    """The elements service."""
    return new_service("Elements", "Chemical elements and molar masses.", router)
