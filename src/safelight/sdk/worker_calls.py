"""The requests of a pull worker, written once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from safelight.sdk.call import Call
from safelight.sdk.resources import JobInfo

LEASE_HEADER: Final = "Safelight-Lease"


class ClaimedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job in our hands. `input` is complete: defaults, count and the start image's address are in it."""

    id: UUID
    project_id: UUID
    model: str
    kind: str
    attempt: int
    n: int
    input: dict[str, Any]
    lease: str
    lease_until: datetime
    deadline_at: datetime
    priority: int = 0
    tags: list[str] = []
    metadata: dict[str, Any] = {}

    def __repr__(self) -> str:  # its lease in a log is its lease given away
        return f"ClaimedJob({self.id}, {self.model!r}, attempt={self.attempt})"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    job: ClaimedJob | None


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    lease_until: datetime
    canceled: bool


class Underway(msgspec.Struct, frozen=True, kw_only=True):
    """A result of which `offset` bytes have arrived. All of them: it is being stored."""

    offset: int
    total: int


def claim(
    models: Sequence[str], loaded: str | None, worker: str, lease_s: float, wait_s: float, claim_id: str
) -> Call[Claim]:
    """Safe to repeat: the same `claim_id` gets the same job."""
    body: dict[str, Any] = {
        "models": list(models),
        "worker": worker[:100],
        "lease_s": lease_s,
        "wait": wait_s,
        "claim_id": claim_id,
    }
    return Call("POST", "/v1/worker/claim", Claim, body={**body, "loaded": loaded} if loaded else body)


def heartbeat(job: ClaimedJob, word: dict[str, Any]) -> Call[Beat]:
    return Call("POST", f"/v1/worker/jobs/{job.id}/heartbeat", Beat, body=word, headers=_lease(job))


def put_output(job: ClaimedJob, index: int) -> Call[dict[str, Any]]:
    """Its body is sent as a stream, beside the call."""
    return Call("PUT", f"/v1/worker/jobs/{job.id}/outputs/{index}", dict[str, Any], headers=_lease(job))


def complete(job: ClaimedJob, cost: dict[str, Any] | None = None) -> Call[JobInfo]:
    body = {} if cost is None else {"cost": cost}
    return Call("POST", f"/v1/worker/jobs/{job.id}/complete", JobInfo, body=body, headers=_lease(job))


def fail(job: ClaimedJob, code: str, message: str, *, retryable: bool) -> Call[JobInfo]:
    body = {"code": code, "message": message[:2000], "retryable": retryable}
    return Call("POST", f"/v1/worker/jobs/{job.id}/fail", JobInfo, body=body, headers=_lease(job))


def release(job: ClaimedJob) -> Call[JobInfo]:
    return Call("POST", f"/v1/worker/jobs/{job.id}/release", JobInfo, headers=_lease(job))


def _lease(job: ClaimedJob) -> dict[str, str]:
    return {LEASE_HEADER: job.lease}
