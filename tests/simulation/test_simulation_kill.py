"""SIGKILL anywhere, any time: nothing is lost, nothing is charged twice (J4, P8, C1)."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from invariants import broken_promises

from processes import Emulators, Node, free_port, wait_until_ready
from safelight.access import keys, projects
from safelight.access.principal import Principal, Role
from safelight.credits import ledger
from safelight.db import embedded, migrate
from safelight.db.pool import Database, Transaction

JOBS = 200
KILLS = 30
SEED = int(os.environ.get("SAFELIGHT_KILL_SEED", "0")) or random.randrange(1, 10**6)
END_S = 240.0
CREDITS = 10_000_000
FAULTS = {
    "probability": {
        "webhook": {"lost": 0.3, "late": 0.25, "double": 0.2},
        "submit": {"lose_answer": 0.03, "429": 0.05, "slow": 0.03},
        "result": {"truncated": 0.02},
        "fail": {"transient": 0.03, "content_policy": 0.02},
    },
    "seed": SEED,
    "late_s": 2.0,
    "slow_s": 1.0,
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="safelight-kill-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def make_project(dsn: str) -> tuple[uuid.UUID, str]:
    """A project with credits, and a key to the installation."""
    db = await Database.connect(dsn)
    admin = Principal("key", "test", None, None, Role.ADMIN, "secret")

    async def work(tx: Transaction) -> tuple[uuid.UUID, str]:
        project = await projects.create_project(tx, admin, "Kill")
        await ledger.grant(tx.conn, project.id, CREDITS, "test", "", "test")
        key = await keys.create_key(tx, project_id=None, kind="secret", name="test")
        return project.id, key.plaintext

    try:
        return await db.run(work)
    finally:
        await db.close()


def body_of(index: int) -> dict[str, object]:
    small = {"prompt": f"picture {index}", "seed": index}
    match index % 10:
        case 0 | 1 | 2 | 3 | 4:
            return {"model": "fal-ai/flux/schnell", "input": {**small, "image_size": {"width": 256, "height": 256}}}
        case 5 | 6 | 7:
            return {"model": "google/nano-banana", "input": {"prompt": f"picture {index}"}}
        case 8:
            sized = {**small, "image_size": {"width": 256, "height": 256}}
            return {"model": "fal-ai/flux/schnell", "input": sized, "n": 3}
        case _:
            return {"model": "local/aurora", "input": {**small, "width": 256, "height": 256}}


async def submit_all(url: str, key: str, project: uuid.UUID, ids: list[uuid.UUID], pace_s: float) -> None:
    """As a careful client does it: its own ids, and the same submit again until it is answered."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=10) as client:
        for index, identity in enumerate(ids):
            deadline = time.monotonic() + 120
            while True:
                assert time.monotonic() < deadline, "the api never came back"
                try:
                    answered = await client.post(
                        f"{url}/v1/projects/{project}/jobs", json={"id": str(identity), **body_of(index)}
                    )
                    if answered.status_code == 202:
                        break
                    assert answered.status_code >= 500, answered.text
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
            await asyncio.sleep(pace_s)


async def kill_at_random(nodes: list[Node], chance: random.Random, url: str, dsn: str) -> int:
    """Kill one of the nodes, wait a moment, start it again; thirty times. How many kills met unfinished jobs."""
    conn = await asyncpg.connect(dsn)
    met = 0
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.2, 2.0))
        node = chance.choice(nodes)
        met += await conn.fetchval("select exists (select from job_work)")
        node.kill()
        await asyncio.sleep(chance.choice([0.0, 0.0, 0.3, 1.0]))
        node.start()
    for node in nodes:
        if node.name == "api":
            await asyncio.to_thread(wait_until_ready, url, node)
    await conn.close()
    return met


async def all_terminal(conn: asyncpg.Connection) -> None:
    deadline = time.monotonic() + END_S
    while left := await conn.fetch(
        "select id, stage, model from jobs where stage not in ('completed', 'failed', 'canceled', 'expired')"
    ):
        assert time.monotonic() < deadline, f"unfinished (seed {SEED}): {[dict(row) for row in left[:5]]}"
        await asyncio.sleep(0.3)
    # Late and doubled webhooks still arrive at jobs that are done.
    while await conn.fetchval("select exists (select from inbox where processed_at is null)"):
        assert time.monotonic() < deadline, "the inbox is never emptied"
        await asyncio.sleep(0.3)


@pytest.mark.timeout(600)
async def test_killing_worker_and_server_thirty_times_loses_nothing_and_charges_nothing_twice(folder: Path) -> None:
    chance = random.Random(SEED)
    emulators = Emulators(folder / "emulators.log")
    data = folder / "data"
    data.mkdir(mode=0o755)
    server = await embedded.start(data / "pg")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "SAFELIGHT_PORT": str(port),
        "SAFELIGHT_DATA": str(data),
        "SAFELIGHT_PUBLIC_URL": url,
        "SAFELIGHT_FAL_KEY": "a:b",
        "SAFELIGHT_FAL_QUEUE_URL": f"{emulators.url}/fal/queue",
        "SAFELIGHT_FAL_REST_URL": f"{emulators.url}/fal/rest",
        "SAFELIGHT_KIE_KEY": "k",
        "SAFELIGHT_KIE_URL": f"{emulators.url}/kie",
        "SAFELIGHT_KIE_WEBHOOK_KEY": "k" * 16,
        "SAFELIGHT_ALLOW_HOSTS": emulators.url.partition("://")[2],
        "SAFELIGHT_LEASE_S": "4",
        "SAFELIGHT_UNKNOWN_GRACE_S": "25",
        "SAFELIGHT_DATABASE_CONNECTIONS": "8",
        "SAFELIGHT_PROVIDER_CONCURRENCY": '{"fal": 40, "kie": 40}',
        "SAFELIGHT_PROVIDER_RATE": '{"kie": 0}',
    }
    nodes = [Node(role, {**environment, "SAFELIGHT_ROLES": role}, folder / f"{role}.log") for role in ("api", "worker")]
    try:
        await migrate.upgrade(server.dsn)
        project, key = await make_project(server.dsn)
        emulators.set_faults(FAULTS)
        for node in nodes:
            node.start()
        await asyncio.to_thread(wait_until_ready, url, nodes[0])
        ids = [uuid.UUID(int=chance.getrandbits(128), version=4) for _ in range(JOBS)]
        async with asyncio.TaskGroup() as group:
            group.create_task(submit_all(url, key, project, ids, pace_s=0.2))
            killing = group.create_task(kill_at_random(nodes, chance, url, server.dsn))
        assert killing.result() >= KILLS * 0.8, "the kills came too late to meet any work"
        conn = await asyncpg.connect(server.dsn)
        try:
            await all_terminal(conn)
            assert await broken_promises(conn) == [], f"seed {SEED}"
            rows = await conn.fetch("select * from jobs")
            assert {row["id"] for row in rows} == set(ids)
            asked = Counter(str(request["attempt"]) for request in emulators.accepted())
            assert {attempt: times for attempt, times in asked.items() if times > 1} == {}, f"seed {SEED}"
            known = {str(row["id"]) for row in await conn.fetch("select id from attempts")}
            assert asked.keys() <= known, "the provider was asked for an attempt that nobody knows"
            ended = Counter(row["stage"] for row in rows)
            # Faults that end a job are rare by the settings above; most must have come through.
            assert ended["completed"] >= JOBS * 0.8, ended
            files = await conn.fetch("select files ->> 'original' as key from generations")
            missing = [row["key"] for row in files if not (data / "media" / row["key"]).is_file()]
            assert missing == []
            spent = await conn.fetchval("select sum(charged) from jobs")
            wallet = await conn.fetchrow("select * from credits where id = $1", project)
            assert (wallet["balance"], wallet["held"]) == (CREDITS - spent, 0)
        finally:
            await conn.close()
        assert [node.stop() for node in nodes] == [0, 0], "SIGTERM ends them in order"
    finally:
        for node in nodes:
            if node.is_running:
                node.kill()
        await server.stop()
        emulators.stop()
