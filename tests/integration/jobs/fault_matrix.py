"""The fault matrix, as data: what may go wrong at a provider, and how a job may end then, by what its adapter can.

Written once for every adapter. A cell is one job with one fault; the cells of all adapters run side by side in one
installation (`test_jobs_fault_matrix.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs_world import DESCRIBED, MODELS

from safelight.providers.base import Capabilities
from safelight.providers.factory import ProviderSettings, build_providers

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
