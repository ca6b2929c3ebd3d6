"""Whatever the network and the servers do, every client ends with what is in the tables (S2; issue 3).

Real servers over real PostgreSQL; clients on sockets, event streams and polls behind a proxy that delays, stalls and
cuts; random writes; servers killed and stopped in between. `SAFELIGHT_CONVERGENCE=full` is the issue's size;
`SAFELIGHT_SIMULATION_SEED` replays one schedule of faults and writes. With `--log-cli-level=info` it says its figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from faulty_proxy import STALL_S, FaultyProxy
from followers import SILENCE_S, Follower, Poller, SocketReader, StreamReader

from processes import Node, free_port, wait_until_ready
from safelight.access import keys
from safelight.db.pool import Database, Transaction
from safelight.library.presenters import library_presenters
from safelight.realtime.bus_pg import PgBus

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Size:
    clients: int
    follows: int
    """Projects of one client."""
    projects: int
    writes: int
    writers: int
    pace_s: float
    """Pause of a writer after each transaction, so that servers restart in the middle of it."""
    restarts: int
    """At the least; the large size goes on as long as there are writes."""
    rest_s: tuple[float, float]
    """Between two of them."""


SIZES = {
    "ci": Size(30, 2, 20, 2_000, 6, 0.01, 2, (0.3, 1.5)),
    "full": Size(50, 6, 100, 20_000, 8, 0.01, 4, (3.0, 10.0)),
}
SIZE = SIZES[os.environ.get("SAFELIGHT_CONVERGENCE", "ci")]
SEED = int(os.environ.get("SAFELIGHT_SIMULATION_SEED", "1"))
END_S = 120.0
"""For everybody to be where the tables are, once all faults have ended."""
TABLES = ("shots", "nodes")

ANY = "(select id from {table} where project_id = $1 order by random() limit 1)"
WRITES = {
    "insert into shots (project_id, name, settings) values ($1, $2, jsonb_build_object('text', repeat($2, 40)))": 3,
    f"update shots set name = $2 where id = {ANY.format(table='shots')}": 4,
    f"delete from shots where id = {ANY.format(table='shots')} and $2 <> ''": 1,
    "insert into nodes (project_id, type, data) values ($1, 'prompt', jsonb_build_object('prompt', $2::text))": 3,
    f"update nodes set x = x + 1.5, data = data || jsonb_build_object('p', $2::text)"
    f" where id = {ANY.format(table='nodes')}": 4,
    f"delete from nodes where id = {ANY.format(table='nodes')} and $2 <> ''": 1,
}


class Undo(Exception):
    """Of a transaction that is given up."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="safelight-converge-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def make_projects(db: Database) -> tuple[list[UUID], str]:
    """Projects, and a key to all of them."""
    projects = [uuid4() for _ in range(SIZE.projects)]

    async def work(tx: Transaction) -> str:
        await tx.conn.executemany("insert into projects (id, name) values ($1, 'p')", [(each,) for each in projects])
        return (await keys.create_key(tx, project_id=None, kind="secret", name="")).plaintext

    return projects, await db.run(work)


class Writers:
    """Random writes: single rows and bundles, some taken back, some that nobody is told of."""

    def __init__(self, db: Database, projects: list[UUID], chance: random.Random) -> None:
        self.left = SIZE.writes
        self.counts: Counter[str] = Counter()
        self._db = db
        self._projects = projects
        self._chance = chance
        # A few projects are busy and many are quiet.
        self._weights = [1 / (1 + number % 20) for number in range(len(projects))]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(SIZE.writers):
                group.create_task(self._write())

    async def _write(self) -> None:
        while self.left > 0:
            (project,) = self._chance.choices(self._projects, self._weights)
            count = min(self._chance.choice([1] * 8 + [3, 10]), self.left)
            is_undone, is_told = self._chance.random() < 0.05, self._chance.random() < 0.85
            self.left -= 0 if is_undone else count
            queries = self._chance.choices(list(WRITES), list(WRITES.values()), k=count)
            texts = [f"{self._chance.getrandbits(32):x}" for _ in queries]

            async def work(
                tx: Transaction,
                project: UUID = project,
                queries: list[str] = queries,
                texts: list[str] = texts,
                is_undone: bool = is_undone,
                is_told: bool = is_told,
            ) -> None:
                for query, text in zip(queries, texts, strict=True):
                    await tx.conn.execute(query, project, text)
                if is_undone:
                    raise Undo
                if is_told:
                    tx.touch(project)

            with contextlib.suppress(Undo):
                await self._db.run(work)
            self.counts["undone" if is_undone else "told" if is_told else "untold"] += count
            await asyncio.sleep(SIZE.pace_s)


@dataclass(frozen=True, slots=True)
class Restarts:
    count: int
    longest_s: float
    """From the end of a server until it was ready again."""


async def restart_at_random(nodes: list[tuple[Node, str]], chance: random.Random, writers: Writers) -> Restarts:
    """One server after the other, by SIGTERM or SIGKILL, while there are writes."""
    count, longest_s = 0, 0.0
    while count < SIZE.restarts or (SIZE.restarts > 2 and writers.left > 0):
        await asyncio.sleep(chance.uniform(*SIZE.rest_s))
        node, url = nodes[count % len(nodes)]
        began_at = time.monotonic()
        if count % 4 in (0, 3):  # each server in each of both ways
            node.kill()
        else:
            assert await asyncio.to_thread(node.stop) == 0, node.said()
        node.start()
        await asyncio.to_thread(wait_until_ready, url, node)
        longest_s = max(longest_s, time.monotonic() - began_at)
        log.info("%s is back after %.1f s", node.name, time.monotonic() - began_at)
        count += 1
    return Restarts(count, longest_s)


async def everybody_is_there(db: Database, followers: list[Follower]) -> dict[UUID, int]:
    """Wait until every replica stands at its project's head; the heads."""
    async with db.connection() as conn:
        heads = {row["project_id"]: row["head"] for row in await conn.fetch("select * from project_heads")}
    deadline = time.monotonic() + END_S
    while late := [
        (type(follower).__name__, replica.cursor, heads[project], follower.counts)
        for follower in followers
        for project, replica in follower.replicas.items()
        if replica.cursor < heads[project]
    ]:
        faults = [fault for follower in followers for fault in follower.faults]
        assert not faults, (SEED, faults[:5])
        assert time.monotonic() < deadline, (SEED, late[:10])
        await asyncio.sleep(0.1)
    return heads


async def tables_of(db: Database, project: UUID) -> dict[tuple[str, str], object]:
    """The rows as the API shows them."""
    presenters = library_presenters(str)
    async with db.connection() as conn:
        return {
            (table, str(row["id"])): presenters[table](dict(row))
            for table in TABLES
            for row in await conn.fetch(f"select * from {table} where project_id = $1", project)
        }


@pytest.mark.timeout(900)
async def test_every_client_ends_with_what_is_in_the_tables_and_applied_nothing_twice(dsn: str, folder: Path) -> None:
    chance = random.Random(SEED)
    db, bus = await Database.connect(dsn, size_max=SIZE.writers + 2), PgBus(dsn)
    nodes: list[tuple[Node, str]] = []
    proxy = FaultyProxy(random.Random(SEED + 1), ports := [free_port(), free_port()])
    following: list[asyncio.Task[None]] = []
    try:
        projects, key = await make_projects(db)
        for port, roles in zip(ports, ("api,realtime", "realtime"), strict=True):
            environment = {
                "SAFELIGHT_DATABASE_URL": dsn, "SAFELIGHT_DATA": str(folder), "SAFELIGHT_ROLES": roles,
                "SAFELIGHT_PORT": str(port), "SAFELIGHT_DATABASE_CONNECTIONS": "6",
            }  # fmt: skip
            nodes.append((Node(f"{roles} at {port}", environment, folder / f"{port}.log"), f"http://127.0.0.1:{port}"))
        for node, _ in nodes:
            node.start()
        for node, url in nodes:
            await asyncio.to_thread(wait_until_ready, url, node)
        await proxy.start()
        await bus.start()
        db.on_touch(bus.hint)
        kinds: list[type[Follower]] = [SocketReader, StreamReader, Poller]
        followers = [
            kinds[number % 3](
                f"http://127.0.0.1:{proxy.port}",
                key,
                [projects[(number * SIZE.follows + each) % len(projects)] for each in range(SIZE.follows)],
                random.Random(chance.getrandbits(64)),
            )
            for number in range(SIZE.clients)
        ]
        following += [asyncio.create_task(follower.run()) for follower in followers]
        writers = Writers(db, projects, random.Random(SEED + 2))
        started_at = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(writers.run())
            restarting = group.create_task(restart_at_random(nodes, random.Random(SEED + 3), writers))
        written_s = time.monotonic() - started_at
        proxy.calm()
        heads = await everybody_is_there(db, followers)
        converged_s = time.monotonic() - started_at - written_s

        assert [fault for follower in followers for fault in follower.faults] == [], SEED
        assert not [task for task in following if task.done()]
        for project in projects:
            fresh = await tables_of(db, project)
            for follower in followers:
                if (replica := follower.replicas.get(project)) is not None:
                    assert replica.cursor == heads[project]
                    rows = {key: row for key, row in replica.rows.items() if key[0] in TABLES}
                    assert rows == fresh, (SEED, type(follower).__name__, project)
        # A dead line is noticed by its silence; the next one may be to a server that is away, or dead as well.
        bound_s = 2 * (SILENCE_S + STALL_S[1]) + restarting.result().longest_s
        for kind in kinds:
            counts: Counter[str] = sum((each.counts for each in followers if type(each) is kind), Counter())
            replicas = [replica for each in followers if type(each) is kind for replica in each.replicas.values()]
            late_s = max(replica.latest_s for replica in replicas)
            log.info("%s: %s, the latest change %.1f s after its commit", kind.__name__, dict(counts), late_s)
            assert late_s <= bound_s, (SEED, kind.__name__, "a client was behind by more than its bound")
            assert counts["lines"] >= SIZE.clients // len(kinds), "the faults never met anybody"
        applied = sum(replica.cursor for follower in followers for replica in follower.replicas.values())
        log.info(
            "%d writes %s in %.1f s, %d restarts, faults %s; %d changes applied;"
            " all equal %.1f s after the last write",
            sum(writers.counts.values()), dict(writers.counts), written_s, restarting.result().count,
            dict(proxy.faults), applied, converged_s,
        )  # fmt: skip
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await proxy.stop()
        await bus.stop()
        for node, _ in nodes:
            if node.is_running:
                node.kill()
        await db.close()
