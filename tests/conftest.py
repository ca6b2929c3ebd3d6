"""What every test may ask for: a real PostgreSQL, and in it a fresh database with today's schema.

`SAFELIGHT_TEST_DATABASE_URL` names another server to use (a role that may create databases); otherwise one
embedded server is started for the whole run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest
import structlog
from hypothesis import settings

from safelight.db import embedded, migrate
from safelight.db.pool import Database

# Tests assert no wall-clock times. (In CI hypothesis has a profile of its own, without a deadline too.)
settings.register_profile("unhurried", deadline=None)
if not os.environ.get("CI"):
    settings.load_profile("unhurried")


# A traceback with every local variable takes seconds to draw, in the loop of the server under test.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f"),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

# What takes long begins first, so that nobody waits for it alone at the end.
FIRST = ("simulation", "integration", "conformance", "browser", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    items.sort(key=lambda item: FIRST.index(item.path.relative_to(here).parts[0]))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


SHARED_MEMORY = Path("/dev/shm")
MEMORY_MIN_BYTES = 6 * 2**30


def _memory() -> Path | None:
    """Where a server that need not last is quickest: each test copies a database, and a disk makes it wait."""
    is_roomy = os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free >= MEMORY_MIN_BYTES
    return SHARED_MEMORY if is_roomy else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a server where databases may be made and dropped."""
    if url := os.environ.get("SAFELIGHT_TEST_DATABASE_URL"):
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix="safelight-test-", dir=_memory()))
    folder.chmod(0o755)  # as root, the server's own account must reach it
    server = embedded.start_sync(folder / "pg", embedded.Settings(is_durable=False, connections_max=100))
    try:
        yield server.dsn
    finally:
        server.stop_sync()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def template(postgres: str) -> AsyncIterator[str]:
    """The name of a database with every migration applied, to copy from."""
    name = f"safelight_template_{uuid.uuid4().hex[:12]}"
    await _admin(postgres, f"create database {name}")
    try:
        await migrate.upgrade(with_database(postgres, name))
        yield name
    finally:
        await _admin(postgres, f"drop database {name} with (force)")


@pytest.fixture
async def dsn(postgres: str, template: str) -> AsyncIterator[str]:
    """A fresh database with the whole schema, dropped afterwards."""
    name = f"safelight_test_{uuid.uuid4().hex[:12]}"
    await _admin(postgres, f"create database {name} template {template} strategy file_copy")
    try:
        yield with_database(postgres, name)
    finally:
        await _admin(postgres, f"drop database {name} with (force)")


@pytest.fixture
async def empty_dsn(postgres: str) -> AsyncIterator[str]:
    """A fresh database with nothing in it, dropped afterwards."""
    name = f"safelight_empty_{uuid.uuid4().hex[:12]}"
    await _admin(postgres, f"create database {name}")
    try:
        yield with_database(postgres, name)
    finally:
        await _admin(postgres, f"drop database {name} with (force)")


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    """The fresh database behind the product's own pool."""
    database = await Database.connect(dsn)
    try:
        yield database
    finally:
        await database.close()


@dataclass(frozen=True)
class Demo:
    """A whole Safelight that runs as a process of its own, as `safelight demo` starts it."""

    url: str
    secret_key: str
    project_id: str
    folder: Path
    process: subprocess.Popen[bytes]


DEMO_READY_S = 90


@pytest.fixture
def demo(running_demo: Demo) -> Demo:
    """One demo for the whole run: server, worker, embedded PostgreSQL, emulated providers."""
    if running_demo.process.poll() is not None:
        pytest.fail(f"the demo has ended: {(running_demo.folder / 'output.txt').read_text()[-4000:]}")
    return running_demo


@pytest.fixture(scope="session")
def running_demo() -> Iterator[Demo]:
    folder = Path(tempfile.mkdtemp(prefix="safelight-demo-"))
    folder.chmod(0o755)  # as root, the database's own account must reach it
    said = (folder / "output.txt").open("wb")
    command = [str(Path(sys.executable).with_name("safelight")), "demo", "--port", "0", "--no-browser", "--data"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SAFELIGHT_")}
    process = subprocess.Popen([*command, str(folder)], stdout=said, stderr=said, env=environ, start_new_session=True)
    try:
        known = _demo_ready(folder / "demo.json", process, folder / "output.txt")
        yield Demo(known["url"], known["secret_key"], known["project_id"], folder, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        said.close()
        shutil.rmtree(folder, ignore_errors=True)


def _demo_ready(file: Path, process: subprocess.Popen[bytes], output: Path) -> dict[str, str]:
    deadline = time.monotonic() + DEMO_READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the demo ended with {process.returncode}: {output.read_text()[-4000:]}")
        try:
            return msgspec.json.decode(file.read_bytes())
        except (FileNotFoundError, msgspec.DecodeError):
            time.sleep(0.05)
    return pytest.fail(f"the demo was not ready in {DEMO_READY_S} s: {output.read_text()[-4000:]}")


async def _admin(server: str, statement: str) -> None:
    conn = await asyncpg.connect(server)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()
