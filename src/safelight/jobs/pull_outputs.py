"""Results of pull workers on their way in: streamed to a file, looked at, stored, and only then counted (M1, M4, P3).

Each arrival has file names of its own, so nothing that comes late or twice can overwrite what a generation shows. A row
is written before the files are: what nobody will use is found by it and removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterable, Awaitable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import uuid_utils.compat as uuid7s

from safelight.db.pool import Conn, Database, Row, Transaction
from safelight.jobs import trace
from safelight.jobs.errors import InvalidSubmission
from safelight.jobs.pull_body import BODY_S, STALL_S, Slow, chunks
from safelight.jobs.pull_leases import hash_of, held
from safelight.jobs.pull_parts import PART_BYTES, PullParts, Span
from safelight.jobs.settle import StoredOutput, generation_id
from safelight.jobs.storing import MediaRoom, prepare
from safelight.media.errors import MediaError, ObjectMissing, ResultTruncated
from safelight.media.intake import Fetched, Intake, SizeLimits
from safelight.providers.base import Output, StoredFile

REQUEST_S: Final = 28.0
"""Of a request in all (J1): storing that takes longer goes on without it."""
KEPT: Final = timedelta(hours=6)
"""Arrivals that no generation shows, before they are removed: far longer than a lease."""
OUTCOME_KEPT_S: Final = 60.0
"""What became of a storing that nobody waited for, for whoever asks."""
SWEEP_MAX: Final = 500
SIZES: Final = SizeLimits()


@dataclass(frozen=True, slots=True)
class Arrived:
    """One result that is stored."""

    index: int
    mime: str
    bytes: int
    width: int | None
    height: int | None
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Underway:
    """A result of which `offset` bytes have come. All of them: it is being looked at and stored."""

    index: int
    offset: int
    total: int
    max_part: int = PART_BYTES


Place = tuple[bytes, int]
"""The lease's hash, and the output's index."""


class PullOutputs:
    def __init__(
        self,
        db: Database,
        media: MediaRoom,
        *,
        sizes: SizeLimits = SIZES,
        stall_s: float = STALL_S,
        request_s: float = REQUEST_S,
    ) -> None:
        self._db = db
        self._media = media
        self._parts = PullParts(db, media.store, sizes)
        self._stall_s = stall_s
        self._request_s = request_s
        self._storing: dict[Place, asyncio.Task[Arrived]] = {}

    async def receive(
        self,
        job_id: UUID,
        token: str,
        index: int,
        body: AsyncIterable[bytes],
        *,
        declared: str | None,
        length: int | None,
        span: Span | None = None,
    ) -> Arrived | Underway:
        """Take one result in, whole or (`span`) a part of it; the same index again, from its beginning, replaces it.

        Raises JobConflict (the lease has ended, before or meanwhile), InvalidSubmission (no such output), MediaError.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._request_s
        async with self._db.connection() as conn:
            task = await held(conn, job_id, token)
            if index >= task["n"]:
                said = f"The job asks for {task['n']}: the last output is {task['n'] - 1}"
                raise InvalidSubmission([{"loc": ["path", "index"], "msg": said, "type": "out_of_range"}])
            if span is not None:
                await self._parts.check(conn, task, token, index, span)
        coming = chunks(body, stall_s=self._stall_s, body_s=BODY_S)
        place = (hash_of(token), index)
        if span is None:
            taken = await self._whole(task, index, coming, declared, length)
            total = taken.file.bytes
            self._store(task, token, index, taken)
        else:
            total = span.total
            if span.begins is not None:
                with self._folder(task, index) as folder:
                    await self._parts.take(task, token, index, span, coming, Path(folder, "part"), declared)
                self._storing.pop(place, None)  # what is being stored is not this
            if (known := await self._progress(task, token, index, span, declared)) is not None:
                return known
        storing = self._storing[place]
        await asyncio.wait([storing], timeout=max(ends_at - loop.time(), 0.0))
        if not storing.done():
            return Underway(index, total, total)
        if self._storing.get(place) is storing:
            del self._storing[place]
        return storing.result()

    async def settled(self, token: str, timeout_s: float) -> None:
        """Wait for what is being stored under this lease. Raises Slow where it takes longer."""
        mine = [storing for (lease, _), storing in self._storing.items() if lease == hash_of(token)]
        if mine and (await asyncio.wait(mine, timeout=timeout_s))[1]:
            raise Slow("An output is still being stored: say it again.", retry_after_s=1.0)

    async def _progress(
        self, task: Row, token: str, index: int, span: Span, declared: str | None
    ) -> Arrived | Underway | None:
        """How far a result in parts has come; None: it is there, and is being stored."""
        place = (hash_of(token), index)
        async with self._db.connection() as conn:
            offset = await self._parts.arrived(conn, token, index, span.total)
            known = await _last_ready(conn, token, index) if offset == 0 else None
        if 0 < offset < span.total:
            return Underway(index, offset, span.total)
        if place in self._storing:
            return None
        if offset == 0:
            is_it = known is not None and known.bytes == span.total
            return known if is_it else Underway(index, 0, span.total)
        self._store(task, token, index, self._put_together(task, token, index, declared))
        return None

    # --- taking in ------------------------------------------------------------------------------------------------

    def _folder(self, task: Row, index: int) -> tempfile.TemporaryDirectory[str]:
        self._media.scratch.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=self._media.scratch, prefix=f"{task['job_id']}-{index}-pull-")

    async def _whole(
        self, task: Row, index: int, coming: AsyncIterable[bytes], declared: str | None, length: int | None
    ) -> Taken:
        folder = self._folder(task, index)
        try:
            return Taken(await self._take(task, coming, Path(folder.name, "original"), declared, length), folder)
        except BaseException:
            folder.cleanup()
            raise

    async def _put_together(self, task: Row, token: str, index: int, declared: str | None) -> Taken:
        try:
            return await self._whole(task, index, self._parts.together(token, index), declared, None)
        except ObjectMissing as error:
            # Another process has put them together, or they are coming anew: whoever asks again hears which.
            raise Slow("The parts were replaced meanwhile: ask again.", retry_after_s=1.0) from error

    async def _take(
        self, task: Row, coming: AsyncIterable[bytes], dest: Path, declared: str | None, length: int | None
    ) -> Fetched:
        kinds = frozenset({str(task["kind"])})
        intake = Intake(dest, kinds=kinds, declared=declared, limits=self._parts.sizes)
        try:
            intake.expect(length)
            async for chunk in coming:
                await intake.write(chunk)
            if intake.received == 0 or length not in (None, intake.received):
                raise ResultTruncated(f"{intake.received:,} of {length or 'some'} bytes arrived.", retryable=True)
            return await intake.finish()
        except BaseException:
            intake.discard()
            raise

    # --- storing --------------------------------------------------------------------------------------------------

    def _store(self, task: Row, token: str, index: int, taken: Taken | Awaitable[Taken]) -> None:
        """Beside the request: a film takes longer than one may last, and its worker asks again."""
        place = (hash_of(token), index)
        storing = asyncio.create_task(self._stored(task, token, index, taken), name="pull-output")
        self._storing[place] = storing

        def over(_: object) -> None:
            if not storing.cancelled():
                storing.exception()  # heard, so that nobody is told it was not
            asyncio.get_running_loop().call_later(OUTCOME_KEPT_S, forget)

        def forget() -> None:
            if self._storing.get(place) is storing:
                del self._storing[place]

        storing.add_done_callback(over)

    async def _stored(self, task: Row, token: str, index: int, taken: Taken | Awaitable[Taken]) -> Arrived:
        try:
            return await self._looked_at_and_stored(task, token, index, taken)
        except MediaError as error:
            if not error.retryable:  # it is no result: nobody should go on with its parts
                await self._parts.drop(token, index)
            raise

    async def _looked_at_and_stored(
        self, task: Row, token: str, index: int, taken: Taken | Awaitable[Taken]
    ) -> Arrived:
        taken = taken if isinstance(taken, Taken) else await taken
        try:
            prefix = f"{task['number']}-{secrets.token_hex(6)}-"
            prepared = await prepare(task["project_id"], task["job_id"], index, taken.file, prefix=prefix)
            identity = uuid7s.uuid7()
            await self._db.run(lambda tx: _announce(tx, task, token, identity, index, prepared.output))
            await prepared.put(self._media.store)
        finally:
            await asyncio.to_thread(taken.folder.cleanup)
        replaced = await self._db.run(lambda tx: _ready(tx, task, token, identity, index, prepared.output))
        await self._parts.drop(token, index)
        await self._forget(replaced)
        made = prepared.output
        return Arrived(index, made.mime, made.bytes, made.width, made.height, made.duration_s)

    # --- housekeeping ---------------------------------------------------------------------------------------------

    async def _forget(self, rows: Sequence[Row]) -> None:
        """First the files: a row that is left is found again."""
        for row in rows:
            await self._media.store.delete(_keys(row["stored"]["files"]))
        if rows:
            async with self._db.connection() as conn:
                await conn.execute("delete from pull_outputs where id = any ($1::uuid[])", [row["id"] for row in rows])

    async def sweep(self) -> int:
        """Remove the files of arrivals that became no generation. How many arrivals were looked at."""
        await self._parts.sweep()
        await asyncio.to_thread(_remove_strays, self._media.scratch, time.time() - KEPT.total_seconds())
        async with self._db.connection() as conn:
            rows = await conn.fetch(
                """
                select o.* from pull_outputs o where o.created_at < now() - $1::interval
                  and not exists (select from pull_tasks t where t.attempt_id = o.attempt_id
                      and t.state in ('waiting', 'leased', 'done') and exists (select from jobs j
                          where j.id = t.job_id and j.attempt = t.number
                            and j.stage not in ('completed', 'failed', 'canceled', 'expired')))
                order by o.created_at limit $2
                """,
                KEPT,
                SWEEP_MAX,
            )
            shown = await _shown(conn, rows)
        for row in rows:
            if row["id"] not in shown:
                await self._media.store.delete(_keys(row["stored"]["files"]))
        if rows:
            async with self._db.connection() as conn:
                await conn.execute("delete from pull_outputs where id = any ($1::uuid[])", [row["id"] for row in rows])
        return len(rows)


@dataclass(frozen=True, slots=True)
class Taken:
    """A whole result on this machine, in a folder that goes with it."""

    file: Fetched
    folder: tempfile.TemporaryDirectory[str]


def _remove_strays(scratch: Path, before: float) -> None:
    """What a process that was killed left in the middle of a copy."""
    for path in scratch.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir() and path.stat().st_mtime < before:
                shutil.rmtree(path, ignore_errors=True)


async def of_lease(conn: Conn, token: str) -> list[Output]:
    """What has arrived under this lease, in order. Raises InvalidSubmission for none, or one that is missing."""
    rows = await conn.fetch(
        """
        select distinct on (output_index) output_index, stored from pull_outputs
        where lease_hash = $1 and is_ready order by output_index, id desc
        """,
        hash_of(token),
    )
    indices = [row["output_index"] for row in rows]
    missing = next((index for index in range(max(indices, default=0) + 1) if index not in indices), None)
    if missing is not None:
        said = f"Output {missing} has not been uploaded"
        raise InvalidSubmission([{"loc": ["path", "index"], "msg": said, "type": "missing"}])
    return [Output(stored=StoredFile(**row["stored"]), mime=row["stored"]["mime"]) for row in rows]


async def _last_ready(conn: Conn, token: str, index: int) -> Arrived | None:
    row = await conn.fetchrow(
        """
        select stored from pull_outputs where lease_hash = $1 and output_index = $2 and is_ready
        order by id desc limit 1
        """,
        hash_of(token),
        index,
    )
    if row is None:
        return None
    kept = row["stored"]
    sizes = (kept.get("width"), kept.get("height"), kept.get("duration_s"))
    return Arrived(index, kept["mime"], kept["bytes"], *sizes)


async def _shown(conn: Conn, rows: Sequence[Row]) -> set[UUID]:
    """Those whose files a generation names."""
    found = await conn.fetch(
        "select id, files ->> 'original' as original from generations where id = any ($1::uuid[])",
        [generation_id(row["job_id"], row["output_index"]) for row in rows],
    )
    originals = {row["original"] for row in found}
    return {row["id"] for row in rows if row["stored"]["key"] in originals}


async def _announce(tx: Transaction, task: Row, token: str, identity: UUID, index: int, output: StoredOutput) -> None:
    await held(tx.conn, task["job_id"], token)
    await tx.conn.execute(
        """
        insert into pull_outputs (id, attempt_id, project_id, job_id, lease_hash, output_index, stored)
        values ($1, $2, $3, $4, $5, $6, $7::jsonb)
        """,
        identity,
        task["attempt_id"],
        task["project_id"],
        task["job_id"],
        hash_of(token),
        index,
        _stored(output),
    )


async def _ready(
    tx: Transaction, task: Row, token: str, identity: UUID, index: int, output: StoredOutput
) -> Sequence[Row]:
    """It counts from here on; gives those that it replaces."""
    await held(tx.conn, task["job_id"], token)
    await tx.conn.execute("update pull_outputs set is_ready = true where id = $1", identity)
    replaced = await tx.conn.fetch(
        """
        update pull_outputs set is_ready = false
        where lease_hash = $1 and output_index = $2 and is_ready and id < $3 returning id, stored
        """,
        hash_of(token),
        index,
        identity,
    )
    detail = {"output": index, "bytes": output.bytes, "key": output.files["original"]}
    step = trace.Step(task["job_id"], task["number"], "stored", datetime.now(UTC), detail)
    await trace.write(tx.conn, [step])
    return replaced


def _stored(output: StoredOutput) -> dict[str, Any]:
    return msgspec.to_builtins(
        StoredFile(
            key=output.files["original"],
            mime=output.mime,
            bytes=output.bytes,
            width=output.width,
            height=output.height,
            duration_s=output.duration_s,
            thumbhash=output.thumbhash,
            files=output.files,
            sha256=None if output.sha256 is None else output.sha256.hex(),
            needs_large=output.needs_large,
        )
    )


def _keys(files: dict[str, Any]) -> list[str]:
    """Every key that a generation's files name, each once."""
    found: dict[str, None] = {}
    for value in files.values():
        found |= dict.fromkeys(value.values() if isinstance(value, dict) else [value])  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
    return list(found)
