"""Arithmetic, equations, factors and statistics."""

import statistics as stats
from typing import Annotated

import sympy
from fastapi import FastAPI, HTTPException, Path
from pydantic import BaseModel, Field

from examples.tools import expressions
from examples.tools.service import new_router, new_service

router = new_router()

FiniteNumber = Annotated[float, Field(allow_inf_nan=False, ge=-1e100, le=1e100)]


class Calculation(BaseModel):
    expression: str = Field(description="arithmetic like (3+4)*2^5", min_length=1, max_length=expressions.MAX_LENGTH)


class Calculated(BaseModel):
    expression: str
    result: int | float


class Equation(BaseModel):
    equation: str = Field(description="equation like 2*x+3=7", min_length=3, max_length=expressions.MAX_LENGTH)
    variable: str = Field(default="x", description="unknown to solve for", min_length=1, max_length=1)


class Solved(BaseModel):
    equation: str
    solutions: list[int | float]


class PrimeFactors(BaseModel):
    number: int
    factors: list[int]
    is_prime: bool


class Numbers(BaseModel):
    numbers: list[FiniteNumber] = Field(description="numbers to summarise", min_length=1, max_length=50)


class Statistics(BaseModel):
    count: int
    mean: float
    median: float
    minimum: float
    maximum: float
    total: float


@router.post("/calculate", operation_id="calculate", summary="Result of an arithmetic expression")
def calculate(body: Calculation) -> Calculated:
    """Calculate, compute, work out or evaluate arithmetic: plus, minus, times, multiply, divided by, powers
    (2^10), square roots (sqrt), parentheses. What is 12 times 7, the value, sum, product or difference of numbers.
    Puts two facts together: how many more or fewer people (inhabitants, residents) live in one city than in
    another, how many they have between them, how many times as many or as heavy, the total or aggregate of the
    population of two cities combined or merged, the ratio, factor or relative mass, the people per square
    kilometre (population density)."""
    try:
        result = expressions.calculate(body.expression)
    except expressions.ExpressionError as error:
        raise HTTPException(status_code=422, detail=str(error)) from error
    return Calculated(expression=body.expression, result=result)


@router.post("/solve", operation_id="solve_equation", summary="Solutions of an equation for its unknown")
def solve_equation(body: Equation) -> Solved:
    """Solve an equation such as 2*x + 3 = 7 or x^2 = 9 for its unknown or variable: find x, the roots or
    zeros, the values that make it true. Gives the real solutions; an empty list means there are none."""
    try:
        solutions = expressions.solve(body.equation, body.variable)
    except expressions.ExpressionError as error:
        raise HTTPException(status_code=422, detail=str(error)) from error
    return Solved(equation=body.equation, solutions=solutions)


@router.get("/factors/{number}", operation_id="prime_factors", summary="Prime factors, and whether a number is prime")
def prime_factors(
    number: Annotated[int, Path(description="whole number", ge=2, le=10**12)],
) -> PrimeFactors:
    """Break a whole number into its prime factors (factorize, factorise, divisors), with repetition, and say
    whether it is a prime number."""
    powers = sympy.factorint(number)
    factors = [int(prime) for prime, count in sorted(powers.items()) for _ in range(count)]
    return PrimeFactors(number=number, factors=factors, is_prime=len(factors) == 1)


@router.post("/statistics", operation_id="statistics", summary="Mean, median, minimum, maximum, total of numbers")
def statistics(body: Numbers) -> Statistics:
    """Statistics of a list of numbers: the average (mean), the middle value (median), the smallest (minimum)
    and largest (maximum, highest, biggest, greatest, most), the sum (total, aggregate, add up, in all) and how
    many there are (count)."""
    numbers = body.numbers
    return Statistics(
        count=len(numbers),
        mean=round(stats.fmean(numbers), 2),
        median=round(stats.median(numbers), 2),
        minimum=round(min(numbers), 2),
        maximum=round(max(numbers), 2),
        total=round(sum(numbers), 2),
    )


def create_app() -> FastAPI:
    """The maths service."""
    return new_service("Maths", "Arithmetic, equations, factors and statistics.", router)
