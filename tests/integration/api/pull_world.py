"""Pull workers as tests play them: by hand, one request at a time, over real HTTP."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from api_world import Json, World, ok, until
from PIL import Image

from safelight.jobs import work

MODELS = """
[[pull]]
id = "my/painter"
price = { unit = "picture", amount = 100 }
max_outputs = 4

[[pull]]
id = "my/sculptor"

[[pull]]
id = "my/film"
kind = "video"
"""
LONG_S = 600.0
"""No test waits for such a lease: where one is to end, it is ended (`lease_ends`)."""


def model_file(folder: Path) -> Path:
    path = folder / "models.toml"
    path.write_text(MODELS)
    return path


def picture(color: str = "teal", size: tuple[int, int] = (96, 64)) -> bytes:
    saved = io.BytesIO()
    Image.new("RGB", size, color).save(saved, "PNG")
    return saved.getvalue()


def painting(**given: Any) -> Json:
    """The body of a job for pull workers."""
    return {"model": "my/painter", "input": {"prompt": "a teal wall"}, **given}


async def claim(client: httpx.AsyncClient, *models: str, wait: float = 20.0, **given: Any) -> Json | None:
    body = {"models": list(models) or ["my/painter"], "wait": wait, "lease_s": LONG_S, "worker": "tester", **given}
    return ok(await client.post("/v1/worker/claim", json=body))["job"]


async def tell(client: httpx.AsyncClient, job: Json, verb: str, **body: Any) -> httpx.Response:
    """`verb`: heartbeat, complete, fail or release."""
    headers = {"Safelight-Lease": job["lease"]}
    return await client.post(f"/v1/worker/jobs/{job['id']}/{verb}", json=body, headers=headers)


async def upload(
    client: httpx.AsyncClient, job: Json, index: int = 0, content: Any = None, mime: str = "image/png", **headers: str
) -> httpx.Response:
    sent = {"Safelight-Lease": job["lease"], "Content-Type": mime, **headers}
    path = f"/v1/worker/jobs/{job['id']}/outputs/{index}"
    return await client.put(path, content=picture() if content is None else content, headers=sent)


async def make(client: httpx.AsyncClient, job: Json) -> Json:
    """All the outputs, and the word that they are there."""
    for index in range(job["n"]):
        ok(await upload(client, job, index))
    return ok(await tell(client, job, "complete"))


async def lease_ends(world: World, job: Json) -> None:
    """As if its time had passed: the row's times are moved, nothing else; the sweep finds it as it would in life."""
    await in_hands(world, job)  # a look that is under way would have read the old time
    async with world.system.db.connection() as conn:
        await conn.execute(
            "update pull_tasks set leased_until = now() - interval '1 second' where job_id = $1 and state = 'leased'",
            UUID(job["id"]),
        )
        await work.look_now(conn, [UUID(job["id"])])


async def attempts(world: World, job: Json) -> list[tuple[int, str]]:
    rows = await world.rows("select number, state from attempts where job_id = $1 order by number", UUID(job["id"]))
    return [(row["number"], row["state"]) for row in rows]


async def charged(world: World, job: Json) -> list[int]:
    """Every capture of the job: one for a completed job, none for any other."""
    rows = await world.rows(
        "select amount from ledger_transfers where job_id = $1 and reason = 'capture'", UUID(job["id"])
    )
    return [row["amount"] for row in rows]


async def waiting_claims(world: World, count: int) -> None:
    async def are_there() -> bool:
        return len(world.system.desk.waiters) == count

    await until(are_there, f"{count} claims to wait")


async def in_hands(world: World, job: Json) -> None:
    """Until the engine knows that a worker has it, and has nothing more to do before the lease ends."""

    async def is_known() -> bool:
        return await world.value(
            """
            select true from jobs j join job_work w on w.job_id = j.id join job_progress p on p.job_id = j.id
            join pull_tasks t on t.job_id = j.id and t.number = j.attempt
            where j.id = $1 and j.stage = 'running' and w.lease_by is null and not w.poked
              and w.look_at = t.leased_until
            """,
            UUID(job["id"]),
        )

    await until(is_known, "the job to be in a worker's hands")


async def on_the_desk(world: World, count: int) -> None:
    """Until so many jobs wait for a worker."""

    async def are_there() -> bool:
        return await world.value("select count(*) from pull_tasks where state = 'waiting'") == count

    await until(are_there, f"{count} jobs to lie on the desk")
