"""From a provider's output to a file of ours: fetch, probe, derive, store (M1, M2). Safe to repeat."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from safelight.db.pool import Row
from safelight.jobs.settle import StoredOutput, generation_id
from safelight.jobs.trace import Step
from safelight.media.derive import LARGE, Derived, is_light, look_at
from safelight.media.fetch import Fetched, Fetcher, take_bytes, take_file
from safelight.media.mediatype import TYPES
from safelight.media.probe import Probed
from safelight.media.store import Store, generation_key
from safelight.media.workers import run_cpu
from safelight.providers.base import Output

PARALLEL = 4
"""Outputs of one job copied side by side."""


@dataclass(frozen=True, slots=True)
class MediaRoom:
    """What storing needs: where files go, how they are fetched, where they wait in between."""

    store: Store
    fetcher: Fetcher
    scratch: Path


async def store_outputs(media: MediaRoom, job: Row, outputs: Sequence[Output]) -> tuple[list[StoredOutput], list[Step]]:
    """Copy every output; all or an error. Raises MediaError (its `retryable` says whether to come again)."""
    media.scratch.mkdir(parents=True, exist_ok=True)
    gate = asyncio.Semaphore(PARALLEL)
    steps: list[Step] = []

    async def one(index: int, output: Output) -> StoredOutput:
        if output.stored is not None:
            return as_stored(output)
        async with gate:
            return await _copy(media, job, index, output, steps)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(index, output)) for index, output in enumerate(outputs)]
    return [task.result() for task in tasks], steps


def as_stored(output: Output) -> StoredOutput:
    """A result that was put into our storage before it was reported. Raises ValueError for any other."""
    kept = output.stored
    if kept is None:
        raise ValueError("this output is not in our storage")
    return StoredOutput(
        kind=kept.mime.partition("/")[0],
        mime=kept.mime,
        bytes=kept.bytes,
        files=kept.files or {"original": kept.key},
        width=kept.width,
        height=kept.height,
        duration_s=kept.duration_s,
        sha256=None if kept.sha256 is None else bytes.fromhex(kept.sha256),
        thumbhash=kept.thumbhash,
        meta=output.meta,
        needs_large=kept.needs_large,
    )


async def _copy(media: MediaRoom, job: Row, index: int, output: Output, steps: list[Step]) -> StoredOutput:
    job_id: UUID = job["id"]
    with tempfile.TemporaryDirectory(dir=media.scratch, prefix=f"{job_id}-{index}-") as folder:
        fetched = await _bring(media, output, Path(folder, "original"), frozenset({str(job["kind"])}))
        steps.append(Step(job_id, job["attempt"], "downloaded", _now(), {"output": index, "bytes": fetched.bytes}))
        prepared = await prepare(job["project_id"], job_id, index, fetched)
        await prepared.put(media.store)
        stored = prepared.output
        steps.append(Step(job_id, job["attempt"], "stored", _now(), {"output": index, "key": stored.files["original"]}))
        return stored


def _now() -> datetime:
    return datetime.now(UTC)


async def _bring(media: MediaRoom, output: Output, path: Path, kinds: frozenset[str]) -> Fetched:
    if output.url is not None:
        return await media.fetcher.fetch(output.url, kinds=kinds, dest=path)
    if output.data is not None:
        return await take_bytes(output.data, kinds=kinds, dest=path, declared=output.mime)
    if output.path is not None:
        return await take_file(output.path, kinds=kinds, dest=path, declared=output.mime)
    raise ValueError("an output has a url, data, a path or is stored")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A result looked at and derived from, with the keys that its files will have."""

    output: StoredOutput
    files: Sequence[tuple[str, Path | bytes, str]]
    """Key, where or what it is, and its type."""

    async def put(self, store: Store) -> None:
        """Store all of it. Raises StorageUnavailable."""
        await asyncio.gather(
            *(
                store.put_file(key, source, mime) if isinstance(source, Path) else store.put_bytes(key, source, mime)
                for key, source, mime in self.files
            )
        )


async def prepare(project_id: UUID, job_id: UUID, index: int, fetched: Fetched, *, prefix: str = "") -> Prepared:
    """Probe and derive. `prefix` begins the files' names: the same for the same bytes. Raises MediaError."""
    probed, derived = await run_cpu(look_at, fetched.path, fetched.mime)
    return _prepared(project_id, generation_id(job_id, index), fetched, probed, derived, prefix)


def _prepared(
    project_id: UUID, identity: UUID, fetched: Fetched, probed: Probed, derived: Derived, prefix: str
) -> Prepared:
    def key(name: str) -> str:
        return generation_key(project_id, identity, prefix + name)

    original = key(f"original.{TYPES[probed.mime].extension}")
    files: dict[str, object] = {"original": original}
    puts: list[tuple[str, Path | bytes, str]] = [(original, fetched.path, probed.mime)]
    light = is_light(probed, fetched.bytes)
    if derived.thumbs:
        thumbs = {str(side): key(f"thumb-{side}.webp") for side in derived.thumbs}
        files["thumbs"] = {**thumbs, str(LARGE): original} if light else thumbs
    for side, data in derived.thumbs.items():
        puts.append((key(f"thumb-{side}.webp"), data, "image/webp"))
    if derived.poster is not None:
        files["poster"] = key("poster.webp")
        puts.append((key("poster.webp"), derived.poster, "image/webp"))
    output = StoredOutput(
        kind=probed.kind,
        mime=probed.mime,
        bytes=fetched.bytes,
        files=files,
        width=probed.width,
        height=probed.height,
        duration_s=probed.duration_s,
        sha256=fetched.sha256,
        thumbhash=derived.thumbhash,
        needs_large=probed.kind in ("image", "video") and not light,
    )
    return Prepared(output, puts)
