"""Which server, key and project: given, from the environment, or from a demo that runs here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from safelight.sdk.errors import NotConfigured

DEMO_FILE: Final = Path(".safelight") / "demo.json"
DEMO_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Connection:
    """`url` has no trailing slash; `project` is the default where a call names none."""

    url: str
    key: str | None
    project: str | None

    def __repr__(self) -> str:  # a key in a log is a key given away
        return f"Connection({self.url!r}, key={'…' if self.key else None}, project={self.project!r})"


def discover(
    url: str | None = None,
    key: str | None = None,
    project: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Connection:
    """Arguments first, then SAFELIGHT_URL, SAFELIGHT_KEY, SAFELIGHT_PROJECT, then a demo's `demo.json`.

    That is looked for in SAFELIGHT_DATA, then in `.safelight` here and in the folders above. What it says about keys
    is used for the demo's own address only. Raises NotConfigured.
    """
    environ = os.environ if environ is None else environ
    url = url or environ.get("SAFELIGHT_URL") or None
    key = key or environ.get("SAFELIGHT_KEY") or None
    project = project or environ.get("SAFELIGHT_PROJECT") or None
    if not (url and key and project):
        demo = _demo(_demo_files(environ, folder or Path.cwd()))
        if demo and (url is None or _clean(url) == _clean(demo["url"])):
            url = demo["url"]
            key = key or demo.get("secret_key")
            project = project or demo.get("project_id")
    if not url:
        raise NotConfigured("no Safelight server is known here", code="not_configured")
    return Connection(_clean(url), key, project)


def _clean(url: str) -> str:
    url = url.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise NotConfigured(f"{url!r} is not an http address", code="not_configured")
    return url


def _demo_files(environ: Mapping[str, str], folder: Path) -> list[Path]:
    """Where a demo may have said how to reach it, nearest first."""
    data = [Path(environ["SAFELIGHT_DATA"]) / DEMO_FILE.name] if environ.get("SAFELIGHT_DATA") else []
    return data + [place / DEMO_FILE for place in (folder, *folder.parents)]


def _demo(files: Sequence[Path]) -> dict[str, Any] | None:
    for path in files:
        try:
            with path.open("rb") as file:
                demo = msgspec.json.decode(file.read(DEMO_BYTES_MAX), type=dict[str, Any])
        except (OSError, msgspec.DecodeError):
            continue
        if isinstance(demo.get("url"), str):
            return demo
    return None
