from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.credits.pricing import AMOUNT_MAX, Price, PricingError, Unit, quote

sizes = st.integers(1, 8192)
durations = st.decimals("0.01", "600", places=2).map(float)
prices = st.builds(Price, st.sampled_from(list(Unit)), st.integers(0, 10_000))


def test_a_picture_is_paid_per_picture():
    assert quote(Price(Unit.PICTURE, 500), 3) == 1500


def test_a_flat_price_is_paid_once_whatever_comes_of_it():
    assert quote(Price(Unit.FLAT, 500), 4) == 500


def test_seconds_are_counted_exactly_and_rounded_up_once_at_the_end():
    assert quote(Price(Unit.SECOND, 10), 3, duration_s=0.25) == 8  # 7.5, not 3 × 3
    assert quote(Price(Unit.SECOND, 10), 1, duration_s=0.1) == 1  # the float above a tenth does not make it 2
    assert quote(Price(Unit.SECOND, 100), 1, duration_s=0.1 + 0.2) == 31  # what is given is what counts


def test_megapixels_are_millions_of_pixels():
    assert quote(Price(Unit.MEGAPIXEL, 100), 1, width=1000, height=1000) == 100
    assert quote(Price(Unit.MEGAPIXEL, 100), 1, width=1024, height=1024) == 105


@pytest.mark.parametrize("unit, missing", [("second", "duration_s"), ("megapixel", "width")])
def test_a_price_that_depends_on_an_absent_parameter_names_it(unit: str, missing: str):
    with pytest.raises(PricingError) as refused:
        quote(Price(Unit(unit), 1))
    assert refused.value.parameter == missing


@pytest.mark.parametrize("duration_s", [0, -1, float("nan"), float("inf")])
def test_an_impossible_duration_is_refused(duration_s: float):
    with pytest.raises(PricingError):
        quote(Price(Unit.SECOND, 1), duration_s=duration_s)


def test_impossible_prices_and_sums_are_refused():
    with pytest.raises(PricingError):
        Price("fortnight", 1)  # type: ignore[arg-type]
    with pytest.raises(PricingError):
        Price(Unit.FLAT, -1)
    with pytest.raises(PricingError):
        quote(Price(Unit.PICTURE, AMOUNT_MAX), 2)
    with pytest.raises(PricingError):
        quote(Price(Unit.PICTURE, 1), 0)


def test_a_unit_may_be_given_as_the_word_that_stands_in_a_file():
    assert Price("second", 3) == Price(Unit.SECOND, 3)  # type: ignore[arg-type]


@given(price=prices, n=st.integers(1, 99), width=sizes, height=sizes, duration_s=durations)
def test_fewer_outputs_never_cost_more_so_a_part_always_fits_the_hold(
    price: Price, n: int, width: int, height: int, duration_s: float
):
    part = quote(price, n, width=width, height=height, duration_s=duration_s)
    whole = quote(price, n + 1, width=width, height=height, duration_s=duration_s)
    assert 0 <= part <= whole


@given(amount=st.integers(1, 10_000), n=st.integers(1, 100), duration_s=durations)
def test_a_quote_is_the_least_integer_that_covers_the_exact_cost(amount: int, n: int, duration_s: float):
    exact = Fraction(amount * n) * Fraction(Decimal(str(duration_s)))
    assert quote(Price(Unit.SECOND, amount), n, duration_s=duration_s) == ceil(exact)
