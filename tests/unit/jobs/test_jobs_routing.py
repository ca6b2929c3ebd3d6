"""Which provider makes a job (P6): the model's order, from where it is, past those that are down."""

from __future__ import annotations

import msgspec
import pytest

from safelight.jobs.breaker import Gate
from safelight.jobs.routing import Choice, choose, usable
from safelight.providers.model import Route
from safelight.providers.registry import Registry

A, B, C = (Route(provider=name, endpoint=f"{name}/fox") for name in "abc")
_SHIPPED = Registry.load().get("local/aurora")
assert _SHIPPED is not None
MODEL = msgspec.structs.replace(_SHIPPED, id="house/fox", routes=(A, B, C))


def of(provider: str, *, endpoint: str | None = None, is_pinned: bool = False, ready: str = "abc") -> list[str]:
    found = usable(
        MODEL, provider, endpoint or f"{provider}/fox", is_pinned=is_pinned, is_ready=lambda name: name in ready
    )
    return [route.provider for route in found]


def test_after_the_last_provider_comes_the_first_again():
    assert of("a") == ["a", "b", "c"]
    assert of("b") == ["b", "c", "a"]
    assert of("c") == ["c", "a", "b"]


def test_a_provider_that_was_named_is_the_only_one():
    assert of("b", is_pinned=True) == ["b"]


def test_providers_without_a_key_are_passed_over_but_not_the_one_that_has_the_job():
    assert of("a", ready="ac") == ["a", "c"]
    assert of("b", ready="ac") == ["b", "c", "a"]


def test_a_model_that_was_changed_meanwhile_keeps_the_jobs_own_route_and_offers_what_it_names_now():
    assert of("x") == ["x", "a", "b", "c"]
    assert usable(None, "a", "a/fox", is_pinned=False, is_ready=lambda _: True) == [A]


@pytest.mark.parametrize(
    ("gates", "chosen"),
    [
        ({}, Choice(A)),
        ({"a": Gate.SHUT}, Choice(B)),
        ({"a": Gate.PROBE}, Choice(A, is_probe=True)),
        ({"a": Gate.SHUT, "b": Gate.SHUT}, Choice(C)),
        ({"a": Gate.SHUT, "b": Gate.SHUT, "c": Gate.SHUT}, None),
    ],
)
def test_the_first_that_may_be_asked_is_asked(gates: dict[str, Gate], chosen: Choice | None):
    assert choose([A, B, C], lambda route: gates.get(route.provider, Gate.GO)) == chosen
