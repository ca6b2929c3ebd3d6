"""Larger thumbnails, made after the job is done: they reach open windows like any other change (M2)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import structlog

from safelight.db.pool import Database, Transaction
from safelight.jobs.storing import MediaRoom
from safelight.media.derive import DerivedLarge, derive_large
from safelight.media.errors import MediaError
from safelight.media.probe import Probed
from safelight.media.store import generation_key
from safelight.media.workers import run_patiently

log: Final = structlog.get_logger("jobs")

SOURCE_BYTES_MAX: Final = 64 * 1024 * 1024
"""A larger original is left as it is: its poster and small thumbnail are there already."""


async def add_large(db: Database, media: MediaRoom, generation_id: UUID) -> None:
    """Make and store what is missing, then name it in the generation's row. Safe to repeat."""
    async with db.connection() as conn:
        row = await conn.fetchrow("select * from generations where id = $1", generation_id)
    if row is None or "1024" in row["files"].get("thumbs", {}):
        return
    # A video's still is its poster.
    source = row["files"].get("poster") or row["files"]["original"]
    media.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=media.scratch, prefix=f"{generation_id}-large-") as folder:
        path = Path(folder, "source")
        info = await media.store.head(source)
        if info.size > SOURCE_BYTES_MAX or info.mime is None:
            return
        await media.store.download(source, path)
        still = Probed("image", info.mime, row["width"], row["height"], None)
        try:
            large = await run_patiently(derive_large, path, still)
        except MediaError as error:
            log.warning("derive.failed", generation=str(generation_id), error=repr(error))
            return
    added = await _put(media, row["project_id"], generation_id, large)
    await db.run(lambda tx: _name(tx, generation_id, row["project_id"], added))


async def _put(media: MediaRoom, project_id: UUID, identity: UUID, large: DerivedLarge) -> dict[str, dict[str, str]]:
    added: dict[str, dict[str, str]] = {}
    for family, extension, mime, files in (
        ("thumbs", "webp", "image/webp", large.thumbs),
        ("avif", "avif", "image/avif", large.avif),
    ):
        for side, data in files.items():
            key = generation_key(project_id, identity, f"thumb-{side}.{extension}")
            await media.store.put_bytes(key, data, mime)
            added.setdefault(family, {})[str(side)] = key
    return added


async def _name(tx: Transaction, identity: UUID, project_id: UUID, added: Mapping[str, Any]) -> None:
    await tx.conn.execute(
        """
        update generations set files = files
            || jsonb_build_object('thumbs', coalesce(files -> 'thumbs', '{}') || coalesce($2::jsonb -> 'thumbs', '{}'))
            || jsonb_build_object('avif', coalesce(files -> 'avif', '{}') || coalesce($2::jsonb -> 'avif', '{}'))
        where id = $1
        """,
        identity,
        dict(added),
    )
    tx.touch(project_id)
