"""Results of a synchronous provider, on our disk from the moment they arrive (P8, M1).

The answer to an image request is the image, and it comes once: no id, no second look. It is written down before
anybody is told, so that a worker that dies in the next moment has lost nothing: whoever takes the job up finds it
here. Processes that share the folder share the results.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from safelight.providers.base import JSON, Failed, Failure, Observation, Output, Succeeded

log: Final = structlog.get_logger("providers.openai")

KEPT_S: Final = 24 * 3600.0
"""As long as an attempt that nobody waits for is watched; a stored result was copied long before."""
KEPT_BYTES_MAX: Final = 2_000_000_000
OUTPUTS_MAX: Final = 16
ATTEMPT: Final = re.compile(r"[0-9A-Za-z-]{1,64}")


@dataclass(frozen=True, slots=True)
class Made:
    """One result: its bytes, or where it lies."""

    data: bytes | None
    mime: str | None
    url: str | None = None


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    file: str | None = None
    url: str | None = None
    mime: str | None = None


class _Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    outputs: list[_Entry] = []
    cost: dict[str, Any] | None = None
    failure: Failure | None = None


_READ: Final = msgspec.json.Decoder(_Kept)


class Spool:
    """A folder. Its methods may be called from several processes at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def keep(self, attempt_id: str, made: Sequence[Made], cost: JSON | None) -> None:
        """Durable when it returns. Raises OSError."""
        await asyncio.to_thread(self._keep, attempt_id, made, cost)

    async def keep_failure(self, attempt_id: str, failure: Failure) -> None:
        """That it was taken and came to nothing is worth knowing too. Raises OSError."""
        await asyncio.to_thread(
            self._write, f"{_checked(attempt_id)}.json", msgspec.json.encode(_Kept(failure=failure))
        )

    async def find(self, attempt_id: str) -> Observation | None:
        """What became of this attempt; None = nothing is known of it here."""
        return await asyncio.to_thread(self._find, attempt_id)

    def _keep(self, attempt_id: str, made: Sequence[Made], cost: JSON | None) -> None:
        name = _checked(attempt_id)
        self._make_room(sum(len(each.data or b"") for each in made))
        entries: list[_Entry] = []
        for index, each in enumerate(made[:OUTPUTS_MAX]):
            if each.data is not None:
                self._write(f"{name}.{index}", each.data)
                entries.append(_Entry(file=f"{name}.{index}", mime=each.mime))
            else:
                entries.append(_Entry(url=each.url, mime=each.mime))
        # Last: what it names is there.
        self._write(f"{name}.json", msgspec.json.encode(_Kept(outputs=entries, cost=cost)))

    def _find(self, attempt_id: str) -> Observation | None:
        name = _checked(attempt_id)
        try:
            kept = _READ.decode((self._folder / f"{name}.json").read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError):
            log.exception("openai.spool_unreadable", attempt=attempt_id)
            return None
        if kept.failure is not None:
            return Failed(kept.failure)
        outputs: list[Output] = []
        for entry in kept.outputs:
            if entry.file is None:
                outputs.append(Output(url=entry.url, mime=entry.mime))
                continue
            path = self._folder / entry.file
            if not path.exists():
                return None  # its time was over between two looks
            outputs.append(Output(path=path, mime=entry.mime))
        return Succeeded(outputs, kept.cost)

    def _write(self, name: str, data: bytes) -> None:
        """Whole or not at all, readable by us alone."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._folder / f".{name}.{os.getpid()}.part"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / name)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _make_room(self, needed: int) -> None:
        """Drop what has served its time, and the oldest where there is too much."""
        if not self._folder.is_dir():
            return
        files: list[tuple[float, int, Path]] = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                try:
                    about = entry.stat()
                except FileNotFoundError:
                    continue  # another process tidies up too
                files.append((about.st_mtime, about.st_size, Path(entry.path)))
        files.sort()
        total, oldest_kept = needed + sum(size for _, size, _ in files), time.time() - KEPT_S
        for at, size, path in files:
            if at >= oldest_kept and total <= KEPT_BYTES_MAX:
                break
            path.unlink(missing_ok=True)
            total -= size


def _checked(attempt_id: str) -> str:
    """Raises ValueError: it becomes a file's name."""
    if ATTEMPT.fullmatch(attempt_id) is None:
        raise ValueError("an attempt's id is letters, digits and hyphens")
    return attempt_id
