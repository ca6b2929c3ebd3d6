"""What a submit asks for, made complete: template filled, model found, input checked, price known. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from safelight.credits.pricing import Price, PricingError, Unit, quote
from safelight.jobs.errors import InvalidSubmission, UnknownModel
from safelight.jobs.policy import JobPolicy
from safelight.providers.model import Model, Route
from safelight.providers.model_input import InputInvalid, expected, validate_input
from safelight.providers.registry import Registry

PLACEHOLDER_START: Final = "https://start.invalid/image"
"""Stands for the start image while an input is checked; the real address is made at sending."""


@dataclass(frozen=True, slots=True)
class Submission:
    """The body of a submit, decoded. Either `model` and `input`, or `template` and `variables` (J8)."""

    model: str | None = None
    input: dict[str, Any] = field(default_factory=dict[str, Any])
    n: int = 1
    target: dict[str, Any] | None = None
    template: str | None = None
    variables: dict[str, Any] | None = None
    start: UUID | None = None
    provider: str | None = None
    priority: int = 0
    deadline_s: float | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    webhook_url: str | None = None


@dataclass(frozen=True, slots=True)
class Complete:
    """A submission that can become a job."""

    model: Model
    provider: str
    endpoint: str
    input: dict[str, Any]
    quoted: int
    deadline: timedelta


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The same digest for the same request: what decides between a repetition and a mismatch (J2). `size` in bytes."""

    digest: bytes
    size: int


def fingerprint(project_id: UUID, submission: Submission) -> Fingerprint:
    body = msgspec.json.encode([str(project_id), msgspec.to_builtins(submission)], order="deterministic")
    return Fingerprint(hashlib.sha256(body).digest(), len(body))


def complete(
    submission: Submission, registry: Registry, enabled: frozenset[str], policy: JobPolicy, *, allow_emulator: bool
) -> Complete:
    """Check everything that needs no database. Raises UnknownModel or InvalidSubmission (422); changes nothing.

    `enabled` names the providers that have what they need to be asked.
    """
    if submission.model is None:
        raise InvalidSubmission([_error(("body", "model"), "Name a model or a template", "missing")])
    model = registry.get(submission.model)
    if model is None:
        raise UnknownModel(submission.model, registry.nearest(submission.model))
    route = _route(model, submission.provider, enabled)
    start = PLACEHOLDER_START if submission.start is not None else None
    try:
        checked = validate_input(
            model, submission.input, n=submission.n, start_url=start, allow_emulator=allow_emulator
        )
    except InputInvalid as error:
        raise InvalidSubmission(error.errors) from error
    size = expected(model, checked)
    price = route.price or model.price
    try:
        quoted = quote(
            Price(Unit(price.unit), price.amount),
            submission.n,
            width=size.width,
            height=size.height,
            duration_s=size.duration_s,
        )
    except PricingError as error:
        raise InvalidSubmission([_error(("body", "input", error.parameter), str(error), "price")]) from error
    seconds = policy.deadline_default_s if submission.deadline_s is None else submission.deadline_s
    if not 1 <= seconds <= policy.deadline_max_s:
        said = f"A deadline is between 1 and {policy.deadline_max_s:.0f} seconds"
        raise InvalidSubmission([_error(("body", "deadline_s"), said, "out_of_range")])
    return Complete(
        model, route.provider, route.endpoint, _without_start(model, checked, start), quoted, timedelta(seconds=seconds)
    )


def _route(model: Model, wanted: str | None, enabled: frozenset[str]) -> Route:
    routes = [route for route in model.routes if wanted in (None, route.provider)]
    if not routes:
        made_by = ", ".join(route.provider for route in model.routes)
        said = f"{model.id} is not made by {wanted}; it is by {made_by}"
        raise InvalidSubmission([_error(("body", "provider"), said, "one_of")])
    usable = [route for route in routes if route.provider in enabled]
    if not usable:
        said = f"{routes[0].provider} has no key on this installation; the operator sets it"
        raise InvalidSubmission([_error(("body", "model"), said, "provider_disabled")])
    return usable[0]


def _without_start(model: Model, checked: dict[str, Any], start: str | None) -> dict[str, Any]:
    """The input as it is kept: what the user gave and the defaults, without the placeholder."""
    if start is None or model.start_field is None:
        return checked
    kept = dict(checked)
    value: Any = kept.get(model.start_field)
    if isinstance(value, list):
        rest = [url for url in value if url != start]  # pyright: ignore[reportUnknownVariableType]
        kept[model.start_field] = rest
        if not rest:
            del kept[model.start_field]
    else:
        kept.pop(model.start_field, None)
    return kept


def _error(loc: tuple[str, ...], msg: str, kind: str) -> dict[str, Any]:
    return {"loc": list(loc), "msg": msg, "type": kind}
