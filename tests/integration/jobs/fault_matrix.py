"""The fault matrix, as data: what may go wrong at a provider, and how a job may end then, by what its adapter can.

Written once for every adapter. A cell is one job with one fault; the cells of all adapters run side by side in one
installation (`test_jobs_fault_matrix.py`). Handovers are its second dimension: each adapter as a model's first choice
with something wrong, and another provider after it (P6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from jobs_world import DESCRIBED, MODELS, REGISTRY

from safelight.providers.base import Capabilities
from safelight.providers.factory import ProviderSettings, build_providers
from safelight.providers.model import Model, Price, Route, RouteInput

ADAPTERS = (*tuple(what for what in MODELS if not what.startswith("local") and not what.endswith(" clip")), "kie clip")
"""Every adapter with an emulator, by its first model in the jobs' world; and KIE's Veo, which has a wire of its own."""

COMPLETED, FAILED, CANCELED = "completed", "failed", "canceled"


def capabilities() -> Mapping[str, Capabilities]:
    """Of each adapter, before any installation exists."""
    built = build_providers(ProviderSettings(templates=DESCRIBED, local_workers=0))
    return {what: built[what.partition(" ")[0]].capabilities for what in ADAPTERS}


def is_synchronous(able: Capabilities) -> bool:
    """Its submit is the whole exchange: nobody reports later, and nobody can be asked (OpenAI's images)."""
    return not able.webhooks and not able.cancel and able.lookup


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    faults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    needs: str = ""
    """A capability without which the fault cannot be."""
    cancels: bool = False
    """The user cancels once the provider has the task."""

    def is_for(self, able: Capabilities) -> bool:
        match self.needs:
            case "asynchronous":
                return not is_synchronous(able)
            case "":
                return True
            case name:
                return bool(getattr(able, name))

    def ends(self, able: Capabilities) -> frozenset[str]:
        """The stages the job may end in: one where the promise is one, several where it is a race."""
        hears = able.webhooks or (able.lookup and not is_synchronous(able))
        match self.name:
            case "lost answer" | "hang" | "500 though accepted":
                return frozenset({COMPLETED if hears else FAILED})
            case "lost answer, lost webhook":
                return frozenset({COMPLETED if able.lookup and not is_synchronous(able) else FAILED})
            case "lost request" | "500" | "expired result" | "truncated result" | "wrong-typed result":
                return frozenset({FAILED})
            case "failure that passes":
                # Where a provider's words do not tell a passing failure from a lasting one, nothing is bought again.
                return frozenset({COMPLETED, FAILED})
            case "cancel wins":
                return frozenset({CANCELED})
            case "cancel loses":
                # A race: a result that is there is kept; without a word in the time of grace the job is canceled.
                return frozenset({COMPLETED, CANCELED})
            case _:
                return frozenset({COMPLETED})


FAULTS = (
    Fault("none"),
    Fault("lost webhook", {"webhook": "lost"}, needs="webhooks"),
    Fault("doubled webhook", {"webhook": "double"}, needs="webhooks"),
    Fault("late webhook", {"webhook": "late", "late_s": 1.5}, needs="webhooks"),
    Fault("early webhook", {"webhook": "before_answer"}, needs="webhooks"),
    Fault("forged webhook", {"webhook": "forged"}, needs="webhooks"),
    Fault("lost answer", {"submit": "lose_answer"}),
    Fault("lost answer, lost webhook", {"submit": "lose_answer", "webhook": "lost"}),
    Fault("lost request", {"submit": "lose_request", "submit_times": 100}),
    Fault("429", {"submit": "429", "submit_times": 1, "retry_after_s": 0.2}),
    Fault("500", {"submit": "500", "submit_times": 100}),
    Fault("500 though accepted", {"submit": "500_accepted"}),
    Fault("hang", {"submit": "hang"}),
    Fault("status 500", {"status": "500", "status_times": 1, "webhook": "lost"}, needs="asynchronous"),
    Fault("unknown state", {"status": "unknown", "status_times": 1, "webhook": "lost"}, needs="asynchronous"),
    Fault("expired result", {"result": "expired"}),
    Fault("truncated result", {"result": "truncated"}),
    Fault("wrong-typed result", {"result": "wrong_type"}),
    Fault("failure that passes", {"fail": "transient", "fail_times": 1}),
    Fault("cancel wins", {"latency_s": 3000.0}, needs="asynchronous", cancels=True),
    Fault("cancel loses", {"cancel": "ignored", "latency_s": 1.0}, needs="asynchronous", cancels=True),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One adapter with one fault."""

    what: str
    fault: Fault
    able: Capabilities

    @property
    def name(self) -> str:
        return f"{self.what}: {self.fault.name}"

    @property
    def provider(self) -> str:
        return self.what.partition(" ")[0]

    @property
    def is_hopeless(self) -> bool:
        """Nobody will ever say whether the provider has it: policy ends it after the time of grace."""
        return self.fault.faults.get("submit") is not None and self.ends == frozenset({FAILED})

    @property
    def ends(self) -> frozenset[str]:
        return self.fault.ends(self.able)


def cells() -> list[Cell]:
    able = capabilities()
    return [Cell(what, fault, able[what]) for what in ADAPTERS for fault in FAULTS if fault.is_for(able[what])]


# --- handovers --------------------------------------------------------------------------------------------------

DEARER = 1_000_000
"""What the second provider takes of who names it. A job that only came to it costs what was quoted."""
UNSEEN_READS = 8
"""Reads of a task's status that fail: with the growing gaps between them more than a minute's worth."""
SECONDS = {
    "image": {
        "fal": ("fal-ai/flux/schnell", {"image_size": {"width": 64, "height": 64}, "seed": 7}),
        "replicate": ("black-forest-labs/flux-schnell", {"width": 64, "height": 64, "seed": 7}),
    },
    "video": {"replicate": ("bytedance/seedance-1-lite", {"width": 64, "height": 64, "duration": 1, "seed": 7})},
}
"""Who takes over, by what is to be made: endpoint, and its input beside the prompt."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What goes wrong at the first of two providers, and what at the second."""

    name: str
    first: Mapping[str, Any] = field(default_factory=dict[str, Any])
    second: Mapping[str, Any] = field(default_factory=dict[str, Any])
    needs: str = ""
    """As of a `Fault`."""
    takes_too_long: bool = False
    """The first one's time passes."""
    cancels: bool = False
    """The user cancels once the second provider has the task."""


DOWN = {"submit": "503_gateway", "submit_times": 100}
HANDOVERS = (
    Handover("out of service", DOWN),
    Handover("busy for long", {"submit": "429", "submit_times": 100, "retry_after_s": 0.1}),
    Handover("500", {"submit": "500", "submit_times": 100}),
    Handover("lost answer", {"submit": "lose_answer"}),
    Handover("lost answer, lost webhook", {"submit": "lose_answer", "webhook": "lost"}),
    Handover("lost request", {"submit": "lose_request", "submit_times": 100}),
    Handover("hang", {"submit": "hang"}),
    Handover("failure that passes", {"fail": "transient"}),
    Handover("never ends", {"latency_s": 3000.0}, needs="asynchronous", takes_too_long=True),
    Handover(
        "late result",
        {"status": "500", "status_times": UNSEEN_READS, "webhook": "lost"},
        needs="asynchronous",
        takes_too_long=True,
    ),
    Handover("out of service, lost webhook", DOWN, {"webhook": "lost"}),
    Handover("out of service, doubled webhook", DOWN, {"webhook": "double"}),
    Handover("out of service, canceled", DOWN, {"latency_s": 3000.0}, cancels=True),
)


@dataclass(frozen=True, slots=True)
class HandoverCell:
    """One adapter as the first choice, with one thing wrong."""

    what: str
    handover: Handover
    able: Capabilities

    @property
    def name(self) -> str:
        return f"{self.what}, then {self.second}: {self.handover.name}"

    @property
    def first(self) -> str:
        return self.what.partition(" ")[0]

    @property
    def second(self) -> str:
        return next(name for name in SECONDS[self._base.kind] if name != self.first)

    @property
    def _base(self) -> Model:
        base = REGISTRY.get(MODELS[self.what][0])
        assert base is not None
        return base

    @property
    def model(self) -> Model:
        """The adapter's model, with a second provider that is told no more than the prompt."""
        base = self._base
        endpoint, given = SECONDS[base.kind][self.second]
        names = {each.name for each in base.fields} | set(base.extra) | {base.n_field or "prompt"}
        first = Route(
            provider=self.first,
            endpoint=base.routes[0].endpoint,
            timeout_s=3600.0,
            input=RouteInput(extra={"_emulator": self.handover.first}),  # type: ignore[dict-item]
        )
        second = Route(
            provider=self.second,
            endpoint=endpoint,
            price=Price(unit="flat", amount=DEARER),
            input=RouteInput(
                omit=tuple(names - {"prompt"}),
                extra={**given, "_emulator": self.handover.second},  # type: ignore[dict-item]
            ),
        )
        return msgspec.structs.replace(base, id=f"handover/{self.name}", aliases=(), routes=(first, second))

    @property
    def is_hopeless(self) -> bool:
        """As of a `Cell`."""
        return self.ends == {FAILED: [(self.first, "abandoned")]}

    @property
    def ends(self) -> Mapping[str, list[tuple[str, str]]]:
        """By the stages that the job may end in: who was asked, and what became of it."""
        kept, given_up = [(self.first, "succeeded")], [(self.first, "abandoned")]
        taken_over = (self.second, "succeeded")
        if is_synchronous(self.able) and self.handover.name == "500":
            # Its own word that it is over, and nothing is left of it: that is a failure, and no lost answer.
            return {COMPLETED: [(self.first, "failed"), taken_over]}
        hears = self.able.webhooks or (self.able.lookup and not is_synchronous(self.able))
        match self.handover.name:
            case "lost answer" | "hang":
                # It is paid for there: nobody else is asked before it is known.
                return {COMPLETED: kept} if hears else {FAILED: given_up}
            case "lost answer, lost webhook":
                is_found = self.able.lookup and not is_synchronous(self.able)
                return {COMPLETED: kept} if is_found else {FAILED: given_up}
            case "500" | "lost request":
                return {FAILED: given_up}
            case "failure that passes":
                return {COMPLETED: [(self.first, "failed"), taken_over], FAILED: [(self.first, "failed")]}
            case "never ends":
                return {COMPLETED: [(self.first, "abandoned"), taken_over]}
            case "late result":
                return {COMPLETED: [(self.first, "succeeded"), taken_over]}
            case "out of service, canceled":
                return {CANCELED: [(self.first, "refused"), (self.second, "canceled")]}
            case _:
                return {COMPLETED: [(self.first, "refused"), taken_over]}


def handover_cells() -> list[HandoverCell]:
    able = capabilities()
    return [
        HandoverCell(what, handover, able[what])
        for what in ADAPTERS
        for handover in HANDOVERS
        if handover.needs != "asynchronous" or not is_synchronous(able[what])
    ]
