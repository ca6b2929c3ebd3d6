"""The change feed over HTTP: Server-Sent Events, and the poll (S2; api.md, Changes).

Both take the project as already authorised. An event stream is the one answer that stays open (J1 is about waiting
for work): it ends by itself after `LIFE_S`, so that whoever holds it has to show a valid token again, and the
client's next request goes on from `Last-Event-ID` without a gap.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import structlog
from starlette.responses import StreamingResponse

from safelight.changes.log import MustRefetch, NoLog
from safelight.realtime.feed import Feed
from safelight.realtime.line import Line
from safelight.realtime.stream_watch import Hold
from safelight.realtime.tail import Beat, Changes, Event, Gap, Progress

__all__ = ["BadCursor", "Cursor", "cursor_of", "poll", "stream"]

log = structlog.get_logger("realtime")

LIFE_S: Final = 25 * 60.0
"""Then the stream ends and the client comes back with a token that is checked anew."""
BEAT_S: Final = 15.0
"""Below the idle limit of common proxies (30–60 s)."""
RETRY_MS: Final = (500, 3000)
"""When a client comes back after we ended the stream: spread out, or a restart is a stampede."""
SEQ_MAX: Final = 2**63 - 1
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}


class BadCursor(ValueError):
    """The cursor in the request cannot be read (422 `invalid_input`)."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a client stands. `after` None: it says nothing."""

    epoch: UUID | None = None
    after: int | None = None


def cursor_of(query: Mapping[str, str], last_event_id: str | None = None) -> Cursor:
    """The cursor from `?epoch=&after=`, or from `Last-Event-ID: {epoch}:{seq}`, which wins: a browser that
    reconnects sends it beside the address it began with. Raises BadCursor."""
    epoch, after = query.get("epoch") or None, query.get("after") or None
    if last_event_id:
        epoch, _, after = last_event_id.rpartition(":")
    try:
        cursor = Cursor(UUID(epoch) if epoch else None, int(after) if after is not None else None)
    except ValueError:
        raise BadCursor("a cursor is after={seq} and epoch={uuid}, or Last-Event-ID: {epoch}:{seq}") from None
    if cursor.after is not None and not 0 <= cursor.after <= SEQ_MAX:
        raise BadCursor("after is a seq: 0 or greater")
    return cursor


async def poll(feed: Feed, project: UUID, cursor: Cursor, *, limit: int = 200, wait_s: float = 0.0) -> bytes:
    """`{epoch, head, changes: […]}` as JSON, built from the shared encoded entries; without a cursor from the
    log's beginning. Waits up to `wait_s` (at most 25) if nothing is new. Raises MustRefetch, NoLog."""
    found = await feed.read(project, epoch=cursor.epoch, after=cursor.after or 0, limit=limit, wait_s=wait_s)
    return b'{"epoch":"%s","head":%d,"changes":[%s]}' % (
        str(found.epoch).encode(),
        found.head,
        b",".join(entry.data for entry in found.entries),
    )


async def stream(
    feed: Feed,
    project: UUID,
    cursor: Cursor,
    *,
    beat_s: float = BEAT_S,
    life_s: float = LIFE_S,
    holding: AbstractContextManager[Hold] | None = None,
    line: Line | None = None,
) -> StreamingResponse:
    """An event stream from the cursor on; without one, from now on. Raises NoLog before anything is sent.

    A cursor that cannot be continued is answered inside the stream (`event: must_refetch`), because an EventSource
    does not show its program the body of a 410. `holding`: entered while the stream is open, it may end it (S6).
    `line`: the way to the socket of this answer.
    """
    await feed.head(project)
    body = _body(feed, project, cursor, beat_s, life_s * random.uniform(0.9, 1.0), holding, line)
    return StreamingResponse(body, media_type="text/event-stream", headers=HEADERS)


async def _body(
    feed: Feed,
    project: UUID,
    cursor: Cursor,
    beat_s: float,
    life_s: float,
    holding: AbstractContextManager[Hold] | None,
    line: Line | None,
) -> AsyncGenerator[bytes]:
    yield b"retry: 2000\n: safelight\n\n"  # something at once, so that every proxy lets the headers through
    ends_at = time.monotonic() + life_s
    try:
        with holding or contextlib.nullcontext() as hold:
            events = feed.follow(
                project,
                epoch=cursor.epoch,
                after=cursor.after,
                beat_s=min(beat_s, life_s),
                is_over=lambda: hold is not None and hold.is_over,
                line=line,
            )
            async with contextlib.aclosing(events):
                async for event in events:
                    yield _bytes(event)
                    if time.monotonic() >= ends_at:
                        break
    except MustRefetch as lost:
        # The id lets a client that reconnects without having understood go on from here, not ask for the same again.
        yield b'event: must_refetch\nid: %s:%d\ndata: {"epoch":"%s","head":%d,"oldest":%d}\n\n' % (
            str(lost.epoch).encode(), lost.head, str(lost.epoch).encode(), lost.head, lost.oldest,
        )  # fmt: skip
    except NoLog:
        yield b"event: gone\ndata: {}\n\n"
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        log.warning("realtime.stream_ended", project=str(project), error=repr(error))  # the client comes back
    yield b"retry: %d\n\n" % random.randint(*RETRY_MS)


def _bytes(event: Event) -> bytes:
    """All that an event means on the wire, as one piece: one send per follower, however many changes."""
    match event:
        case Changes(epoch, entries):
            return b"".join([entry.frame(epoch) for entry in entries])
        case Beat(epoch, head):
            return b'event: head\ndata: {"epoch":"%s","head":%d}\n\n' % (str(epoch).encode(), head)
        case Progress(data):
            return b"event: progress\ndata: %s\n\n" % data.replace(b"\n", b"\ndata: ")
        case Gap():
            return b": catching up\n\n"
        case _:
            return b": waiting\n\n"
