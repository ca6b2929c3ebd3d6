"""The embedded PostgreSQL with real processes: shared, killed, restarted, and never at the cost of others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from safelight.db import embedded
from safelight.db.embedded_home import (
    Account,
    binaries,
    cluster_home,
    default_data_dir,
    service_account,
    state_root,
)

QUICK = embedded.Settings(is_durable=False, shared_buffers_mb=16)
DEADLINE_S = 60
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about what root does")

USER = """
import sys
from pathlib import Path
from safelight.db import embedded
server = embedded.start_sync(Path(sys.argv[1]), embedded.Settings(is_durable=False, shared_buffers_mb=16))
print(server.pid, flush=True)
sys.stdin.readline()
server.stop_sync()
print("stopped", flush=True)
"""


class User:
    """Another process that uses the server until told to stop."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def server_pid(self) -> int:
        assert self.process.stdout
        return int(self.process.stdout.readline())

    def stop(self) -> None:
        out, _ = self.process.communicate("\n", timeout=DEADLINE_S)
        assert out.strip() == "stopped"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is not below a home and that a service account may reach."""
    base = Path(tempfile.mkdtemp(prefix="safelight-pg-"))
    base.chmod(0o755)
    yield base
    for pid_file in base.rglob("postmaster.pid"):  # a test that failed must not leave a server behind
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The id of a living process that has nothing to do with PostgreSQL but belongs to its account."""
    account = service_account()
    process = subprocess.Popen(
        ["sleep", "600"],
        cwd="/",
        user=account.user,
        group=account.group,
        extra_groups=account.extra_groups,
    )
    yield process.pid
    process.kill()
    process.wait()


@contextlib.asynccontextmanager
async def connected(server: embedded.Embedded) -> AsyncIterator[asyncpg.Connection]:
    conn = await asyncpg.connect(server.dsn)
    try:
        yield conn
    finally:
        await conn.close()


async def query(server: embedded.Embedded, sql: str) -> object:
    async with connected(server) as conn:
        return await conn.fetchval(sql)


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while is_alive(pid):
            await asyncio.sleep(0.01)


async def test_what_was_committed_is_there_after_a_stop_and_a_start(folder: Path) -> None:
    first = await embedded.start(folder / "pg", QUICK)
    await query(first, "create table kept as select 42 as answer")
    pid = first.pid
    await first.stop()
    assert pid
    assert not is_alive(pid)

    second = await embedded.start(folder / "pg", QUICK)
    assert await query(second, "select answer from kept") == 42
    await second.stop()
    await second.stop()  # twice does no harm


async def test_two_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    users = [User(folder / "pg") for _ in range(3)]
    pids = {user.server_pid() for user in users}
    assert len(pids) == 1
    pid = pids.pop()

    users[0].stop()
    users[1].stop()
    assert is_alive(pid)
    users[2].stop()
    assert not is_alive(pid)


async def test_a_user_killed_by_sigkill_takes_the_server_from_nobody(folder: Path) -> None:
    doomed = User(folder / "pg")  # it launched the server
    pid = doomed.server_pid()
    server = await embedded.start(folder / "pg", QUICK)
    doomed.kill()

    assert server.pid == pid
    assert await query(server, "select 1") == 1
    await server.stop()
    await until_gone(pid)


async def test_a_server_whose_last_user_was_killed_is_adopted_by_the_next_start(folder: Path) -> None:
    doomed = User(folder / "pg")
    pid = doomed.server_pid()
    doomed.kill()
    assert is_alive(pid)

    server = await embedded.start(folder / "pg", QUICK)
    assert server.pid == pid
    await server.stop()
    await until_gone(pid)


async def test_a_start_after_postgres_was_killed_recovers_what_was_committed(folder: Path) -> None:
    durable = embedded.Settings(shared_buffers_mb=16)
    server = await embedded.start(folder / "pg", durable)
    async with connected(server) as conn:
        await conn.execute("create table ledger (n int); insert into ledger select generate_series(1, 1000)")
        await conn.execute("begin; insert into ledger values (0)")  # never committed
        assert server.pid
        os.kill(server.pid, signal.SIGKILL)
        conn.terminate()  # there is nobody left to say goodbye to
    await server.stop()

    again = await embedded.start(folder / "pg", durable)
    assert await query(again, "select count(*) from ledger") == 1000
    await again.stop()


async def test_a_server_that_dies_under_us_is_started_again(folder: Path) -> None:
    server = await embedded.start(folder / "pg", QUICK)
    keeper = asyncio.create_task(server.keep_running())
    await query(server, "create table kept as select 7 as n")
    for _ in range(2):
        first = server.pid
        assert first
        await asyncio.sleep(0)  # let the keeper take hold of the process
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    assert await query(server, "select n from kept") == 7
                    break
                await asyncio.sleep(0.02)
        assert server.pid != first
    keeper.cancel()
    await server.stop()
    assert server.pid is None


async def test_a_long_path_gets_its_socket_elsewhere_and_keeps_that_place(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    server = await embedded.start(deep, QUICK)
    sockets = server.socket_dir
    assert not sockets.is_relative_to(deep)
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert await query(server, "select 1") == 1
    await server.stop()

    server = await embedded.start(deep, QUICK)
    assert server.socket_dir == sockets
    await server.stop()
    sockets.rmdir()


async def test_a_socket_folder_in_tmp_that_others_may_write_is_not_used_again(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    server = await embedded.start(deep, QUICK)
    opened = server.socket_dir
    await server.stop()
    opened.chmod(0o777)

    server = await embedded.start(deep, QUICK)
    assert server.socket_dir != opened
    await server.stop()
    server.socket_dir.rmdir()
    opened.rmdir()


async def test_a_lock_file_that_names_a_recycled_process_id_does_not_stop_the_start(folder: Path, sleeper: int) -> None:
    server = await embedded.start(folder / "pg", QUICK)
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()
    for name in ("data/postmaster.pid", "socket/.s.PGSQL.5432.lock"):
        lock = folder / "pg" / name
        _, rest = lock.read_text().split("\n", 1)
        lock.write_text(f"{sleeper}\n{rest}")

    server = await embedded.start(folder / "pg", QUICK)
    assert await query(server, "select 1") == 1
    await server.stop()


async def test_a_cluster_of_another_major_version_is_left_alone_and_says_what_to_do(folder: Path) -> None:
    server = await embedded.start(folder / "pg", QUICK)
    await server.stop()
    version = folder / "pg" / "data" / "PG_VERSION"
    version.write_text("17\n")

    with pytest.raises(embedded.EmbeddedError, match=r"written by PostgreSQL 17.*pg_dump"):
        await embedded.start(folder / "pg", QUICK)
    assert version.read_text() == "17\n"


async def test_a_server_that_cannot_start_says_why_and_where_its_log_is(folder: Path) -> None:
    server = await embedded.start(folder / "pg", QUICK)
    await server.stop()
    (folder / "pg" / "data" / "global" / "pg_control").unlink()

    with pytest.raises(embedded.EmbeddedError, match=r"pg_control.*postgres\.log"):
        await embedded.start(folder / "pg", QUICK)


async def test_an_initdb_that_was_killed_half_way_is_begun_anew(folder: Path) -> None:
    home = cluster_home(folder / "pg", service_account())
    (home / "data.new" / "base").mkdir(parents=True)
    (home / "data.new" / "PG_VERSION").write_text("18\n")

    server = await embedded.start(folder / "pg", QUICK)
    assert await query(server, "select 1") == 1
    await server.stop()
    assert not (home / "data.new").exists()


async def test_no_tcp_port_is_opened(folder: Path) -> None:
    server = await embedded.start(folder / "pg", QUICK)
    assert await query(server, "show listen_addresses") == ""
    await server.stop()


async def test_the_log_is_set_aside_when_it_has_grown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safelight.db.embedded_server.LOG_BYTES_MAX", 10)
    server = await embedded.start(folder / "pg", QUICK)
    before = server.log_path.read_text()
    assert "ready to accept connections" in before
    server.trim_log()
    assert server.log_path.read_text() == ""
    assert server.log_path.with_name("postgres.log.1").read_text() == before
    await server.stop()
    assert "shut down" in server.log_path.read_text()


@needs_root
async def test_as_root_a_home_stays_closed_and_the_files_go_to_a_place_of_their_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "alice"
    project = home / "project"
    project.mkdir(parents=True)
    home.chmod(0o700)
    project.chmod(0o750)
    monkeypatch.setenv("HOME", str(home))
    parents = [project, *project.parents]
    before = [stat.S_IMODE(path.stat().st_mode) for path in parents]

    server = await embedded.start(project / "data", QUICK)
    try:
        assert await query(server, "select 1") == 1
        assert server.home.is_relative_to(state_root())
        assert (project / "data" / "postgres.path").read_text().strip() == str(server.home)
        assert [stat.S_IMODE(path.stat().st_mode) for path in parents] == before
    finally:
        await server.stop()
    shutil.rmtree(server.home)

    with pytest.raises(embedded.EmbeddedError, match="is gone"):  # not silently an empty database
        await embedded.start(project / "data", QUICK)


@needs_root
async def test_root_does_not_follow_a_pointer_out_of_its_own_folder(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "postgres.path").write_text("/etc\n")
    with pytest.raises(embedded.EmbeddedError, match="not a folder of ours"):
        await embedded.start(closed, QUICK)


@needs_root
async def test_root_keeps_no_cluster_in_a_folder_that_another_account_can_rearrange(folder: Path) -> None:
    theirs = folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    home = cluster_home(theirs / "pg", service_account())
    assert home.is_relative_to(state_root())
    home.rmdir()


@needs_root
async def test_another_account_cannot_connect_even_when_it_reaches_the_socket(folder: Path) -> None:
    server = await embedded.start(folder / "pg", QUICK)
    server.socket_dir.chmod(0o755)
    (server.socket_dir / ".s.PGSQL.5432").chmod(0o777)
    psql = binaries(service_account()) / "psql"
    command = [str(psql), "-h", str(server.socket_dir), "-U", "postgres", "-Atc", "select 1", "safelight"]

    stranger = subprocess.run(
        command, capture_output=True, text=True, cwd="/", user=65534, group=65534, extra_groups=[]
    )
    root = subprocess.run(command, capture_output=True, text=True, cwd="/")
    await server.stop()
    assert root.stdout.strip() == "1"
    assert stranger.returncode != 0
    assert "authentication failed" in stranger.stderr


@needs_root
async def test_the_server_runs_as_an_account_that_is_not_root_in_a_folder_of_its_own(folder: Path) -> None:
    server = await embedded.start(folder / "pg", QUICK)
    data = (server.home / "data").stat()
    assert Path(f"/proc/{server.pid}").stat().st_uid == service_account().uid != 0
    assert (data.st_uid, stat.S_IMODE(data.st_mode)) == (service_account().uid, 0o700)
    await server.stop()


@needs_root
def test_an_ordinary_user_runs_the_wheels_own_binaries_in_the_project(folder: Path) -> None:
    """In a child that gives root up after its imports, since the interpreter may lie below root's home."""
    os.chown(folder, 65534, 65534)
    program = """
import asyncio, concurrent.futures.thread, os, sys, asyncpg, encodings.idna
from pathlib import Path
from safelight.db import embedded
os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.chdir(sys.argv[1])
async def main():
    server = await embedded.start(embedded.default_data_dir(), embedded.Settings(is_durable=False))
    conn = await asyncpg.connect(server.dsn)
    print(await conn.fetchval("select current_user || ' ' || current_setting('data_directory')"))
    await conn.close()
    await server.stop()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == f"postgres {folder.resolve()}/.safelight/pg/data", done.stderr


def test_the_default_folder_differs_by_project_and_stays_the_same_for_one(folder: Path) -> None:
    one, two = default_data_dir(folder / "one"), default_data_dir(folder / "two")
    assert one == default_data_dir(folder / "one")
    assert one != two


def test_an_account_that_is_ourselves_changes_nothing_in_a_subprocess() -> None:
    us = Account(os.geteuid(), os.getegid(), is_us=True)
    assert (us.user, us.group, us.extra_groups) == (None, None, None)
