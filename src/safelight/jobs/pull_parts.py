"""Results of pull workers that come in parts: no request is long, and a broken line costs one part (P3, J1).

The parts lie in the storage, and a row was there before each of them: any process may take the next one, and put them
together once all are there. What has arrived is what the rows say: without a gap, from the beginning.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import uuid_utils.compat as uuid7s

from safelight.db.pool import Conn, Database, Row, Transaction
from safelight.jobs.pull_leases import hash_of, held
from safelight.media.errors import (
    ResultTooLarge,
    ResultTruncated,
    StorageUnavailable,
    UploadInvalid,
    UploadOffsetMismatch,
)
from safelight.media.intake import SizeLimits, judge
from safelight.media.mediatype import SNIFF_BYTES
from safelight.media.store import Store

PART_BYTES: Final = 8 * 1024 * 1024
"""Advised: what a broken line costs at most."""
PART_BYTES_MAX: Final = 16 * 1024 * 1024
PART_BYTES_MIN: Final = 256 * 1024
"""But of the last: a film of 2 GB is at most 8,000 rows."""
KEPT: Final = timedelta(hours=6)
"""Of a lease that has ended."""
SWEEP_MAX: Final = 500

_RANGE: Final = re.compile(r"bytes (?:(\d{1,15})-(\d{1,15})|\*)/(\d{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """Which bytes of the result a body is. `begins` None: none, it only asks how far the result has come."""

    begins: int | None
    ends: int
    """The first byte that is not in it."""
    total: int

    @property
    def size(self) -> int:
        return 0 if self.begins is None else self.ends - self.begins


def parse_span(content_range: str | None, length: int | None) -> Span | None:
    """From `Content-Range: bytes 0-8388607/20000000`, or `bytes */20000000`. None: there is none, so it is the whole.

    Raises UploadInvalid, ResultTooLarge.
    """
    if content_range is None:
        return None
    match = _RANGE.fullmatch(content_range.strip())
    if match is None:
        raise UploadInvalid("`Content-Range` must look like `bytes 0-1023/4096`, or `bytes */4096` to ask.")
    total = int(match[3])
    if match[1] is None:
        return Span(None, 0, total)
    span = Span(int(match[1]), int(match[2]) + 1, total)
    if span.size < 1 or span.ends > total:
        raise UploadInvalid("`Content-Range` names no bytes, or more than there are.")
    if length not in (None, span.size):
        raise UploadInvalid(f"`Content-Range` names {span.size:,} bytes, and the body has {length:,}.")
    if span.size > PART_BYTES_MAX:
        raise ResultTooLarge(f"A part has at most {PART_BYTES_MAX:,} bytes.")
    if span.size < PART_BYTES_MIN and span.ends < total:
        raise UploadInvalid(f"A part has at least {PART_BYTES_MIN:,} bytes, but for the last one.")
    return span


class PullParts:
    """The shelf for parts. It trusts `task`, which `held` gave."""

    def __init__(self, db: Database, store: Store, sizes: SizeLimits) -> None:
        self._db = db
        self._store = store
        self.sizes = sizes

    async def check(self, conn: Conn, task: Row, token: str, index: int, span: Span) -> None:
        """Before a part is read: whether it is the one to go on with. Raises ResultTooLarge, UploadOffsetMismatch."""
        if span.total > self.sizes.most(frozenset({str(task["kind"])})):
            raise ResultTooLarge(f"The result has {span.total:,} bytes; that is too many.")
        if span.begins:
            at = await _arrived(conn, token, index, span.total)
            if span.begins > at:
                raise _mismatch(span, at)

    async def arrived(self, conn: Conn, token: str, index: int, total: int) -> int:
        """How many bytes from the beginning, of a result of this length."""
        return await _arrived(conn, token, index, total)

    async def take(
        self,
        task: Row,
        token: str,
        index: int,
        span: Span,
        body: AsyncIterable[bytes],
        path: Path,
        declared: str | None,
    ) -> None:
        """One part, by way of `path`; from its beginning on it replaces what came before.

        Raises JobConflict, UploadOffsetMismatch, and MediaError for what is no result of this kind.
        """
        taken = await _to_file(body, path, span.size)
        if taken != span.size:
            raise ResultTruncated(f"{taken:,} bytes came, and the part has {span.size:,}.", retryable=True)
        if span.begins == 0:
            self._look(task, span, path, declared)
        identity = uuid7s.uuid7()
        key = f"p/{task['project_id']}/parts/{task['attempt_id']}-{secrets.token_hex(8)}.part"
        await self._db.run(lambda tx: _announce(tx, task, token, identity, index, span, key))
        try:
            await self._store.put_file(key, path, "application/octet-stream")
            replaced = await self._db.run(lambda tx: _ready(tx, task, token, identity, index, span))
        except Exception:
            with contextlib.suppress(Exception):  # else the sweep does it
                await self._forget([{"id": identity, "key": key}])
            raise
        await self._forget(replaced)

    def _look(self, task: Row, span: Span, path: Path, declared: str | None) -> None:
        """What begins as no result of this kind need not be sent to its end."""
        with path.open("rb") as file:
            media = judge(file.read(SNIFF_BYTES), declared, frozenset({str(task["kind"])}))
        if span.total > self.sizes.of(media.kind):
            raise ResultTooLarge(f"The result has {span.total:,} bytes; the limit is {self.sizes.of(media.kind):,}.")

    async def together(self, token: str, index: int) -> AsyncIterator[bytes]:
        """The bytes of all parts. Raises ObjectMissing where one was replaced meanwhile."""
        async with self._db.connection() as conn:
            parts = await _ready_parts(conn, token, index)
        for part in parts:
            async for block in self._store.get_range(part["key"], 0, part["bytes"]):
                yield block

    async def drop(self, token: str, index: int) -> None:
        """They have served their time, or are of no use."""
        async with self._db.connection() as conn:
            rows = await conn.fetch(
                "select id, key from pull_parts where lease_hash = $1 and output_index = $2", hash_of(token), index
            )
        await self._forget(rows)

    async def sweep(self) -> int:
        """Remove those whose lease ended long ago; how many."""
        async with self._db.connection() as conn:
            rows = await conn.fetch(
                """
                select p.id, p.key from pull_parts p where p.created_at < now() - $1::interval
                  and not exists (select from pull_tasks t where t.attempt_id = p.attempt_id
                      and t.state = 'leased' and t.lease_hash = p.lease_hash)
                order by p.created_at limit $2
                """,
                KEPT,
                SWEEP_MAX,
            )
        await self._forget(rows)
        return len(rows)

    async def _forget(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """First the files: a row that is left is found again."""
        if not rows:
            return
        await self._store.delete([row["key"] for row in rows])
        async with self._db.connection() as conn:
            await conn.execute("delete from pull_parts where id = any ($1::uuid[])", [row["id"] for row in rows])


async def _to_file(body: AsyncIterable[bytes], path: Path, size: int) -> int:
    """How many bytes came; no more than one block beyond `size` is read. Raises StorageUnavailable."""
    taken = 0
    try:
        with path.open("wb") as file:
            async for chunk in body:
                taken += len(chunk)
                if taken > size:
                    break
                file.write(chunk)  # into the system's cache: a part is small
    except OSError as error:
        raise StorageUnavailable(f"Cannot write to the scratch folder: {error.strerror}.") from error
    return taken


async def _ready_parts(conn: Conn, token: str, index: int) -> Sequence[Row]:
    return await conn.fetch(
        """
        select key, begins, bytes, total from pull_parts
        where lease_hash = $1 and output_index = $2 and is_ready order by begins
        """,
        hash_of(token),
        index,
    )


async def _arrived(conn: Conn, token: str, index: int, total: int) -> int:
    row = await conn.fetchrow(
        """
        select begins + bytes as ends, total from pull_parts
        where lease_hash = $1 and output_index = $2 and is_ready order by begins desc limit 1
        """,
        hash_of(token),
        index,
    )
    return int(row["ends"]) if row is not None and row["total"] == total else 0


def _mismatch(span: Span, at: int) -> UploadOffsetMismatch:
    return UploadOffsetMismatch(f"{at:,} of {span.total:,} bytes have arrived; go on from there.", at)


async def _announce(tx: Transaction, task: Row, token: str, identity: UUID, index: int, span: Span, key: str) -> None:
    await held(tx.conn, task["job_id"], token)
    await tx.conn.execute(
        """
        insert into pull_parts (id, attempt_id, lease_hash, output_index, begins, bytes, total, key)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        identity,
        task["attempt_id"],
        hash_of(token),
        index,
        span.begins,
        span.size,
        span.total,
        key,
    )


async def _ready(tx: Transaction, task: Row, token: str, identity: UUID, index: int, span: Span) -> Sequence[Row]:
    """It counts from here on; gives those that it replaces. Under the task's lock: one after the other."""
    await held(tx.conn, task["job_id"], token)
    before = await _arrived(tx.conn, token, index, span.total)
    replaced = await tx.conn.fetch(
        """
        update pull_parts set is_ready = false
        where lease_hash = $1 and output_index = $2 and is_ready and begins + bytes > $3 returning id, key
        """,
        hash_of(token),
        index,
        span.begins,
    )
    if await _arrived(tx.conn, token, index, span.total) != span.begins:
        raise _mismatch(span, before)  # it would leave a gap
    await tx.conn.execute("update pull_parts set is_ready = true where id = $1", identity)
    return replaced
