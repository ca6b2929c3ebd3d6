"""The two clients are one: the waiting one is made from the async one. Run this file to make it anew."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SDK = Path(__file__).parents[3] / "src" / "safelight" / "sdk"
RUFF = Path(sys.executable).with_name("ruff")

REPLACED = (
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(Safelight|JobSet|Job|Generations|Credits|Keys)\b", r"\1"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bAsyncGenerator\b", "Generator"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\baclosing\b", "closing"),
    (r"\bhttpx\.Async(Client|BaseTransport)\b", r"httpx.\1"),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\.aclose\(", ".close("),
    (r"\baiter_(sse|bytes)\b", r"iter_\1"),
    (r"\.aread\(", ".read("),
    (r"\banyio\.sleep\b", "time.sleep"),
    (r"^import anyio\n", ""),
    (r"\bsdk\.aio\b", "sdk.blocking"),
)


def made() -> dict[Path, str]:
    """The files of the waiting client, from the async one's."""
    return {SDK / "blocking" / source.name: twin_of(source) for source in sorted((SDK / "aio").glob("[a-z]*.py"))}


def twin_of(source: Path) -> str:
    text = source.read_text()
    for pattern, replacement in REPLACED:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    for command in (["check", "--select", "I,UP,C4", "--unsafe-fixes", "--fix-only", "-q"], ["format", "-q"]):
        text = subprocess.run(
            [RUFF, *command, "--stdin-filename", str(SDK / "blocking" / source.name), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


def test_the_waiting_client_says_what_the_async_one_says() -> None:
    twins = made()
    assert len(twins) >= 4
    assert {path: path.read_text() for path in twins} == twins


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text)
