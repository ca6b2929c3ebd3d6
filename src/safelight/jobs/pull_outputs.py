"""Results of pull workers on their way in: streamed to a file, looked at, stored, and only then counted (M1, M4, P3).

Each arrival has file names of its own, so nothing that comes late or twice can overwrite what a generation shows. A row
is written before the files are: what nobody will use is found by it and removed.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterable, Sequence
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
from safelight.jobs.pull_leases import hash_of, held
from safelight.jobs.settle import StoredOutput, generation_id
from safelight.jobs.storing import MediaRoom, prepare
from safelight.media.errors import ResultTruncated, UploadStalled
from safelight.media.intake import Fetched, Intake, SizeLimits
from safelight.providers.base import Output, StoredFile

STALL_S: Final = 20.0
"""Silence of the worker in the middle of a body."""
KEPT: Final = timedelta(hours=6)
"""Arrivals that no generation shows, before they are removed: far longer than a lease."""
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


class PullOutputs:
    def __init__(self, db: Database, media: MediaRoom, *, sizes: SizeLimits = SIZES, stall_s: float = STALL_S) -> None:
        self._db = db
        self._media = media
        self._sizes = sizes
        self._stall_s = stall_s

    async def receive(
        self,
        job_id: UUID,
        token: str,
        index: int,
        body: AsyncIterable[bytes],
        *,
        declared: str | None,
        length: int | None,
    ) -> Arrived:
        """Take one result in; the same index again replaces it.

        Raises JobConflict (the lease has ended, before or meanwhile), InvalidSubmission (no such output), MediaError.
        """
        async with self._db.connection() as conn:
            task = await held(conn, job_id, token)
        if index >= task["n"]:
            said = f"The job asks for {task['n']}: the last output is {task['n'] - 1}"
            raise InvalidSubmission([{"loc": ["path", "index"], "msg": said, "type": "out_of_range"}])
        self._media.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._media.scratch, prefix=f"{job_id}-{index}-pull-") as folder:
            fetched = await self._take(body, Path(folder, "original"), str(task["kind"]), declared, length)
            prefix = f"{task['number']}-{secrets.token_hex(6)}-"
            prepared = await prepare(task["project_id"], job_id, index, fetched, prefix=prefix)
            identity = uuid7s.uuid7()
            await self._db.run(lambda tx: _announce(tx, task, token, identity, index, prepared.output))
            await prepared.put(self._media.store)
        await self._db.run(lambda tx: _ready(tx, task, token, identity, index, prepared.output))
        made = prepared.output
        return Arrived(index, made.mime, made.bytes, made.width, made.height, made.duration_s)

    async def _take(
        self, body: AsyncIterable[bytes], dest: Path, kind: str, declared: str | None, length: int | None
    ) -> Fetched:
        intake = Intake(dest, kinds=frozenset({kind}), declared=declared, limits=self._sizes)
        try:
            intake.expect(length)
            chunks = aiter(body)
            while True:
                async with asyncio.timeout(self._stall_s):
                    try:
                        chunk = await anext(chunks)
                    except StopAsyncIteration:
                        break
                await intake.write(chunk)
            if intake.received == 0 or length not in (None, intake.received):
                raise ResultTruncated(f"{intake.received:,} of {length or 'some'} bytes arrived.", retryable=True)
            return await intake.finish()
        except TimeoutError as error:
            intake.discard()
            raise UploadStalled(f"No bytes came for {self._stall_s:g} s; send it again.") from error
        except BaseException:
            intake.discard()
            raise

    async def sweep(self) -> int:
        """Remove the files of arrivals that became no generation. How many arrivals were looked at."""
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


async def _ready(tx: Transaction, task: Row, token: str, identity: UUID, index: int, output: StoredOutput) -> None:
    await held(tx.conn, task["job_id"], token)
    await tx.conn.execute("update pull_outputs set is_ready = true where id = $1", identity)
    detail = {"output": index, "bytes": output.bytes, "key": output.files["original"]}
    step = trace.Step(task["job_id"], task["number"], "stored", datetime.now(UTC), detail)
    await trace.write(tx.conn, [step])


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
