"""What the change feed is given and tells: rows as the API shows them, and progress from the other processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from safelight.changes.present import Presenters
from safelight.credits import ledger
from safelight.jobs.reads import present_job
from safelight.library.page import instant
from safelight.library.presenters import library_presenters
from safelight.realtime.bus_base import Bus
from safelight.realtime.feed import Feed


def presenters(media_path: Callable[[str], str]) -> Presenters:
    """How each visible table's rows look in the feed: as the API shows them."""

    def project(row: dict[str, Any]) -> dict[str, Any]:
        return {"id": row["id"], "name": row["name"], "created_at": instant(row["created_at"])}

    return Presenters(
        {**library_presenters(media_path), "jobs": present_job, "credits": ledger.present_wallet, "projects": project}
    )


def relay(bus: Bus, me: str) -> Callable[[UUID, bytes], None]:
    """Tells the other processes what this one is told of a job's progress; `me` is its name."""
    return lambda project, payload: bus.publish("progress", f"{me} {project} {payload.decode()}")


def hear(bus: Bus, feed: Feed, me: str) -> None:
    """Gives the feed what the others relay."""

    def progress(message: str) -> None:
        sender, _, rest = message.partition(" ")
        project, _, payload = rest.partition(" ")
        if payload and sender != me:
            feed.receive_progress(UUID(project), payload.encode())

    bus.on("progress", progress)
