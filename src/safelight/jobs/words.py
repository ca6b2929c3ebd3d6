"""A trace in words: how far the chain came, and what it waits for (D1). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from safelight.jobs.lifecycle import Stage

_WAITS: Final[Mapping[Stage, str]] = {
    Stage.QUEUED: "It waits for a place at the provider.",
    Stage.SUBMITTING: "The provider is being asked; it has not answered yet.",
    Stage.UNKNOWN: "The provider's answer was lost. Its webhook, a look-up or the end of a grace time settles it.",
    Stage.SUBMITTED: "The provider has it in its queue.",
    Stage.RUNNING: "The provider is working on it.",
    Stage.STORING: "The provider is done; its files are being copied to our storage.",
}


def where_it_stands(job: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """One or two sentences for a person."""
    stage = Stage(job["stage"])
    if stage is Stage.COMPLETED:
        total_s = (job["completed_at"] - job["created_at"]).total_seconds()
        attempts = f" in {job['attempt']} attempts" if job["attempt"] > 1 else ""
        return f"Completed {_span(total_s)} after the submit{attempts}; {_heard(steps)}."
    if stage is Stage.CANCELED:
        return "Canceled; its credits were released."
    if stage in (Stage.FAILED, Stage.EXPIRED):
        error: Mapping[str, Any] = job["error"] or {}
        reached = _last(steps, ("stored", "downloaded", "provider_done", "running", "accepted", "sending", "submitted"))
        why = error.get("message", "No reason was given.")
        return f"Ended after the step “{reached}”: {why} Its credits were released."
    since = steps[-1]["at"] if steps else job["created_at"]
    return f"{_WAITS[stage]} The last step was {_span((now - since).total_seconds())} ago."


def out_of_service(providers: Sequence[str]) -> str:
    """Why a job waits whose providers are all down (P6)."""
    who = providers[0] if len(providers) == 1 else f"{', '.join(providers[:-1])} and {providers[-1]}"
    are = "is" if len(providers) == 1 else "are"
    return f"{who} {are} out of service just now. It is tried again every few seconds; your job goes on by itself."


def _heard(steps: Sequence[Mapping[str, Any]]) -> str:
    names = {step["step"] for step in steps}
    return "the provider's webhook told of it" if "webhook" in names else "found by looking at the provider"


def _last(steps: Sequence[Mapping[str, Any]], order: Sequence[str]) -> str:
    names = {step["step"] for step in steps}
    return next((name for name in order if name in names), "submitted").replace("_", " ")


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min"
