"""Reading arithmetic and equations safely: an allow-listed walk over Python's syntax tree, never eval.

Both evaluators bound the size of powers before computing them, so no input can keep the process busy.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy

MAX_LENGTH = 200
MAX_DIGITS = 400
MAX_DEGREE = 24
MAX_FACTORIAL = 150

_SYMBOLS = str.maketrans({"^": "**", "×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "π": "pi", "√": "sqrt"})
# "2x" and "3(4+1)" mean products; "log10(5)" and "2e5" do not.
_IMPLICIT_PRODUCT = re.compile(r"(?<![A-Za-z_\d.])(\d+(?:\.\d+)?)\s*(?=[A-Za-z(])(?![eE][+-]?\d)")
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
Number = Fraction | float


class ExpressionError(ValueError):
    """The text is not an expression this module computes; the message is one sentence."""


def _parse(text: str) -> ast.expr:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression must have at most {MAX_LENGTH} characters")
    # Thousands separators and Python's own power sign are both in common use.
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.translate(_SYMBOLS))
    try:
        return ast.parse(_IMPLICIT_PRODUCT.sub(r"\1*", plain.strip()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"'{text.strip()}' is not a complete expression") from error


class _Walker:
    """Evaluates a tree from the numbers, names, functions and arithmetic it is given."""

    def __init__(
        self,
        number: Callable[[str], Any],
        names: Mapping[str, Any],
        functions: Mapping[str, Callable[..., Any]],
        operators: Mapping[type[ast.operator], Callable[[Any, Any], Any]],
    ) -> None:
        self._number, self._names, self._functions = number, names, functions
        self._binary = {**_OPERATORS, **operators}

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=float() as literal) if not math.isfinite(literal):
                raise ExpressionError("a number is too large")
            case ast.Constant(value=int() | float() as literal) if not isinstance(literal, bool):
                return self._number(repr(literal))
            case ast.Name(id=name) if name in self._names:
                return self._names[name]
            case ast.Name(id=name):
                raise ExpressionError(f"'{name}' is not a known name")
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.value(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in self._binary:
                return self._binary[type(op)](self.value(left), self.value(right))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in self._functions:
                return self._functions[name](*(self.value(argument) for argument in arguments))
            case ast.Call(func=ast.Name(id=name)):
                raise ExpressionError(f"'{name}' is not a known function")
        raise ExpressionError("only numbers, + - * / ^, parentheses and functions such as sqrt are understood")


def _digits(number: Number) -> float:
    size = max(abs(number.numerator), number.denominator) if isinstance(number, Fraction) else abs(number)
    return abs(math.log10(size)) if size else 0.0


def _divide(left: Any, right: Any) -> Any:
    if right == 0:
        raise ExpressionError("division by zero is not defined")
    return left / right


def _floor_divide(left: Number, right: Number) -> Number:
    return Fraction(math.floor(_divide(left, right)))


def _remainder(left: Number, right: Number) -> Number:
    return left - right * _floor_divide(left, right)


def _power(base: Number, exponent: Number) -> Number:
    if base == 0 and exponent < 0:
        raise ExpressionError("division by zero is not defined")
    if _digits(base) * abs(exponent) > MAX_DIGITS or abs(exponent) > 10**6:
        raise ExpressionError("the power is too large to compute")
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        return base ** int(exponent)
    if exponent == Fraction(1, 2):
        return _square_root(base)
    if base < 0:
        raise ExpressionError("a fractional power of a negative number is not a real number")
    return float(base) ** float(exponent)


def _square_root(number: Number) -> Number:
    if number < 0:
        raise ExpressionError("the square root of a negative number is not a real number")
    if isinstance(number, Fraction):
        exact = Fraction(math.isqrt(number.numerator), math.isqrt(number.denominator))
        if exact * exact == number:
            return exact
    return math.sqrt(number)


def _factorial(number: Number) -> Number:
    if number < 0 or number != int(number) or number > MAX_FACTORIAL:
        raise ExpressionError(f"factorial needs a whole number between 0 and {MAX_FACTORIAL}")
    return Fraction(math.factorial(int(number)))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": _square_root,
    "cbrt": math.cbrt,
    "abs": abs,
    "factorial": _factorial,
    "floor": lambda number: Fraction(math.floor(number)),
    "ceil": lambda number: Fraction(math.ceil(number)),
    "round": lambda number: Fraction(round(number)),
    "min": min,
    "max": max,
    "ln": math.log,
    "log": math.log10,
    "log10": math.log10,
    "log2": math.log2,
} | {name: getattr(math, name) for name in ("exp", "sin", "cos", "tan", "asin", "acos", "atan", "degrees", "radians")}
_ARITHMETIC = _Walker(
    Fraction,
    {"pi": math.pi, "e": math.e},
    _FUNCTIONS,
    {ast.Div: _divide, ast.Pow: _power, ast.FloorDiv: _floor_divide, ast.Mod: _remainder},
)


def calculate(text: str) -> int | float:
    """The value of an arithmetic expression: exact when whole, else rounded to six places."""
    try:
        value = _ARITHMETIC.value(_parse(text))
        if abs(value) >= 10**MAX_DIGITS:
            raise ExpressionError("the result is too large")
        rounded = round(value, 6)
        return int(rounded) if rounded == int(rounded) else float(rounded)
    except OverflowError as error:
        raise ExpressionError("the result is too large") from error
    except ExpressionError:
        raise
    except (TypeError, ValueError) as error:
        raise ExpressionError("a function was given a value it is not defined for") from error


@dataclass(frozen=True)
class _Ratio:
    """A quotient of two polynomials, kept small: every step checks its degree before the next is taken."""

    top: sympy.Poly
    bottom: sympy.Poly

    def __post_init__(self) -> None:
        if max(self.top.degree(), self.bottom.degree()) > MAX_DEGREE:
            raise ExpressionError(f"the equation must have degree at most {MAX_DEGREE}")

    def __add__(self, other: "_Ratio") -> "_Ratio":
        return _Ratio(self.top * other.bottom + other.top * self.bottom, self.bottom * other.bottom)

    def __sub__(self, other: "_Ratio") -> "_Ratio":
        return self + -other

    def __neg__(self) -> "_Ratio":
        return _Ratio(-self.top, self.bottom)

    def __mul__(self, other: "_Ratio") -> "_Ratio":
        return _Ratio(self.top * other.top, self.bottom * other.bottom)

    def __truediv__(self, other: "_Ratio") -> "_Ratio":
        if other.top.is_zero:
            raise ExpressionError("division by zero is not defined")
        return _Ratio(self.top * other.bottom, self.bottom * other.top)

    def __pow__(self, other: "_Ratio") -> "_Ratio":
        exponent = other.top.nth(0) / other.bottom.nth(0) if other.is_constant else None
        if exponent is None or not exponent.is_Integer:
            raise ExpressionError("powers in an equation must be whole numbers")
        size = abs(int(exponent))
        coefficients = (Fraction(int(c.p), int(c.q)) for c in self.top.all_coeffs() + self.bottom.all_coeffs())
        if size * max(_digits(coefficient) for coefficient in coefficients) > MAX_DIGITS or size > MAX_DIGITS:
            raise ExpressionError("the power is too large to compute")
        if size * max(self.top.degree(), self.bottom.degree()) > MAX_DEGREE:
            raise ExpressionError(f"the equation must have degree at most {MAX_DEGREE}")
        raised = _Ratio(self.top**size, self.bottom**size)
        one = sympy.Poly(1, self.top.gen)
        return raised if exponent >= 0 else _Ratio(one, one) / raised

    @property
    def is_constant(self) -> bool:
        """Whether the variable does not occur."""
        return bool(self.top.is_ground and self.bottom.is_ground)


def solve(equation: str, variable: str) -> list[int | float]:
    """The real solutions of a polynomial (or rational) equation in one variable, in increasing order."""
    sides = equation.replace("==", "=").split("=")
    if len(sides) != 2 or not all(side.strip() for side in sides):
        raise ExpressionError("an equation needs one '=' with something on both sides")
    if not (variable.isascii() and variable.isalpha()):
        raise ExpressionError("the variable must be one letter")
    symbol = sympy.Symbol(variable, real=True)
    one = sympy.Poly(1, symbol, domain="QQ")

    def number(text: str) -> _Ratio:
        return _Ratio(one * sympy.Rational(text), one)

    unknown = {variable: _Ratio(sympy.Poly(symbol, symbol, domain="QQ"), one)}
    walker = _Walker(number, unknown, {}, {ast.Div: operator.truediv, ast.Pow: operator.pow})
    left, right = (walker.value(_parse(side)) for side in sides)
    difference = left - right
    top, bottom = difference.top.cancel(difference.bottom, include=True)
    if top.is_zero:
        raise ExpressionError(f"every value of {variable} solves this equation")
    if top.is_ground:
        return []
    roots = dict.fromkeys(root for root in sympy.real_roots(top) if bottom.eval(root) != 0)
    if any(abs(root) >= 10**MAX_DIGITS for root in roots):
        raise ExpressionError("a solution is too large")
    return [int(root) if root.is_Integer else round(float(root.evalf(20)), 6) for root in roots]
