"""What the end of a task says of who had it: heard by the breaker of its endpoint (P6).

Machines of the user's own, which come for their work or report it by themselves, have none: there it is each machine
that is well or not, and nobody sends it anything.
"""

from __future__ import annotations

from safelight.db.pool import Row
from safelight.jobs import breaker
from safelight.jobs.breakers import Key
from safelight.jobs.parts import Parts
from safelight.providers.base import Failure


async def made(parts: Parts, job: Row) -> None:
    """The result is there. Costs nothing where all is well."""
    if _is_heard(parts, job):
        await parts.breakers.note(_key(job), breaker.Answered(job["sent_at"]))


async def ended(parts: Parts, job: Row, failure: Failure | None) -> None:
    """It ended otherwise; None: stopped as was wished."""
    if _is_heard(parts, job):
        said = None if failure is None else failure.message
        await parts.breakers.note(_key(job), breaker.of_end(job["sent_at"], failure), said)


def _key(job: Row) -> Key:
    return Key(job["provider"], job["endpoint"])


def _is_heard(parts: Parts, job: Row) -> bool:
    """Of what was not accepted the submit's answer has told already."""
    able = parts.providers[job["provider"]].capabilities
    return job["accepted_at"] is not None and able.inspect and not able.inline
