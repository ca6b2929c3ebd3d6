"""Following one job to its end: what each event means, and when to look or wait. Pure; the clients do the I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec

from safelight.sdk.errors import JobCanceled, JobFailed
from safelight.sdk.resources import JobInfo, Progress
from safelight.sdk.retries import pause_s

STREAM_WORTH_S: Final = 2.0
READ_MAX_S: Final = 30.0
"""The server sends a beat more often than that; silence means that the stream is dead."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """Somewhere between sent and stored."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class Logged:
    """A line that the provider said."""

    line: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The job is in another stage."""

    job: JobInfo


JobEvent = Progressed | Logged | Changed


class Follow:
    """What is known of a job, from whatever way the news comes."""

    def __init__(self, job: JobInfo) -> None:
        self.job = job
        self._failures = 0
        self._is_puzzled = False

    @property
    def is_over(self) -> bool:
        return self.job.is_over

    @property
    def must_look(self) -> bool:
        """The stream said something that we cannot read: the job itself tells the truth."""
        return self._is_puzzled

    def heard(self, name: str, data: str) -> list[JobEvent]:
        """An event of the job's stream. A kind that we do not know says nothing."""
        try:
            if name == "progress":
                return self._progressed(msgspec.json.decode(data, type=Progress))
            if name == "log":
                return [Logged(line) for line in _lines(msgspec.json.decode(data))]
            if name in ("job", "end"):
                return self.looked(msgspec.json.decode(data, type=JobInfo))
        except msgspec.DecodeError:
            self._is_puzzled = True
        return []

    def looked(self, job: JobInfo) -> list[JobEvent]:
        """The job itself, as the server has it now."""
        before = self.job
        if job.left_out and not before.left_out:  # it never changes, and we have all of it
            job = msgspec.structs.replace(job, input=before.input, left_out=[])
        self.job = job
        self._is_puzzled = False
        if (job.stage, job.status, job.attempt) != (before.stage, before.status, before.attempt):
            return [Changed(job)]
        return [Progressed(job.progress)] if job.progress != before.progress else []

    def closed(self, lived_s: float) -> None:
        """The stream ended, broke or could not be had: after a good while to be opened again soon, else ever later."""
        self._failures = 0 if lived_s >= STREAM_WORTH_S else self._failures + 1

    def pause_s(self, chance: float) -> float:
        """Before the next look when there is no stream: soon at first, then every few seconds."""
        return pause_s(self._failures, chance)

    def result(self) -> JobInfo:
        """The completed job. Raises JobFailed or JobCanceled if it ended otherwise."""
        if self.job.status == "canceled":
            raise JobCanceled(self.job)
        if self.job.status == "failed":
            raise JobFailed(self.job)
        return self.job

    def _progressed(self, progress: Progress) -> list[JobEvent]:
        if progress == self.job.progress:
            return []
        self.job = msgspec.structs.replace(self.job, progress=progress)
        return [Progressed(progress)]


def _lines(data: Any) -> list[str]:
    if isinstance(data, dict):
        fields = cast("dict[str, Any]", data)
        data = fields.get("lines") or fields.get("line") or fields.get("message") or []
    if isinstance(data, str):
        return [data]
    return [str(line) for line in cast("list[Any]", data)] if isinstance(data, list) else []
