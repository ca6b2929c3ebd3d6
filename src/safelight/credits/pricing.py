"""What a job costs, before it is submitted (C3). Pure.

Amounts are integers of the smallest unit. A quote is computed exactly and rounded up once, at the end, so that
it never falls when a job asks for more: what fewer outputs cost always fits into the hold for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from math import ceil, isfinite
from typing import Final

AMOUNT_MAX: Final = 10**15
"""As in the ledger: sums of a few still fit the integers that JSON readers hold exactly (2^53)."""
OUTPUTS_MAX: Final = 100
"""As in the jobs table: nobody means more by one submit."""
PIXELS_PER_MEGAPIXEL: Final = 1_000_000


class Unit(StrEnum):
    """What is counted."""

    PICTURE = "picture"
    """Each output, whatever its size (also a clip of a model that is priced by the clip)."""
    SECOND = "second"
    """Each second of each output."""
    MEGAPIXEL = "megapixel"
    """Each million pixels of each output."""
    FLAT = "flat"
    """The job as a whole."""


class PricingError(ValueError):
    """The price cannot be computed from what was given; `parameter` names what is missing or wrong."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Price:
    """`amount` credits per `unit`. Raises PricingError for a unit or amount that cannot be."""

    unit: Unit
    amount: int

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "unit", Unit(self.unit))
        except ValueError:
            known = ", ".join(unit.value for unit in Unit)
            raise PricingError("unit", f"a price is per {known}, not per {self.unit!r}") from None
        if not 0 <= self.amount <= AMOUNT_MAX:
            raise PricingError("amount", f"a price is between 0 and {AMOUNT_MAX}, not {self.amount}")


def quote(
    price: Price,
    n: int = 1,
    *,
    width: int | None = None,
    height: int | None = None,
    duration_s: float | None = None,
) -> int:
    """Credits for `n` outputs of that size (of one output, as far as it is known before it is made), rounded up.

    Raises PricingError where the unit needs a parameter that is absent or not positive, `n` is not 1..100, or
    the sum is beyond what the ledger takes.
    """
    if not 1 <= n <= OUTPUTS_MAX:
        raise PricingError("n", f"n is between 1 and {OUTPUTS_MAX}, not {n}")
    match price.unit:
        case Unit.FLAT:
            count = Fraction(1)
        case Unit.PICTURE:
            count = Fraction(n)
        case Unit.SECOND:
            count = n * _positive("duration_s", duration_s)
        case Unit.MEGAPIXEL:
            pixels = _positive("width", width) * _positive("height", height)
            count = n * pixels / PIXELS_PER_MEGAPIXEL
    credits_due = ceil(price.amount * count)
    if credits_due > AMOUNT_MAX:
        raise PricingError("amount", f"the job would cost {credits_due}, more than {AMOUNT_MAX}")
    return credits_due


def _positive(name: str, value: float | None) -> Fraction:
    if value is None:
        raise PricingError(name, f"the price of this model depends on {name}: say it")
    if not isfinite(value) or value <= 0:
        raise PricingError(name, f"{name} must be more than 0")
    # The decimal that was written, not the binary float beside it: 0.1 s is a tenth and nothing more.
    return Fraction(str(value))
