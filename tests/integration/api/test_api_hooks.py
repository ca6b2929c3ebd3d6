"""The providers' door (P4): what proves itself is stored once; anything else changes nothing."""

from __future__ import annotations

import json
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
from api_world import World, assert_problem, fal, kie, ok, until


async def delivered(world: World, job: str, count: int = 1) -> list[dict]:
    """What the emulator sent about the job, and how it was answered."""
    attempt = (await world.attempt_of(job))["attempt"]

    async def look() -> list[dict] | None:
        async with httpx.AsyncClient(trust_env=False) as client:
            listed = (await client.get(f"{world.emulators.base_url}/_emulator/deliveries")).json()
        found = [each for each in listed if each["attempt"] == attempt]
        return found if len(found) >= count else None

    return await until(look, f"{count} webhooks about {job}")


async def kept_webhook(world: World, job: str) -> tuple[str, dict[str, str], bytes]:
    """Path, headers and body of the webhook that completed the job, as it came."""
    path = urlsplit((await world.attempt_of(job))["webhook_url"]).path

    async def look() -> list | None:
        return await world.rows("select headers, body from inbox where job_id = $1 order by id", UUID(job))

    [row] = await until(look, "the webhook to be stored")
    return path, dict(row["headers"]), bytes(row["body"])


async def settled(world: World) -> None:
    async def quiet() -> bool:
        return not await world.value("select count(*) from inbox where processed_at is null")

    await until(quiet, "the inbox to be empty")


async def test_a_webhook_sent_again_is_taken_and_is_still_one(world: World) -> None:
    job = await world.submit(fal())
    await world.reaches(job["id"], "completed")
    path, headers, body = await kept_webhook(world, job["id"])
    await settled(world)
    async with world.unchanged():
        for _ in range(3):
            answer = await world.client().post(path, content=body, headers=headers)
            assert ok(answer) == {"ok": True}
        await settled(world)


async def test_a_true_webhook_at_the_wrong_door_is_refused(world: World) -> None:
    job = await world.submit(fal())
    await world.reaches(job["id"], "completed")
    path, headers, body = await kept_webhook(world, job["id"])
    await settled(world)
    *start, attempt, token = path.split("/")
    root = "/".join(start)
    nobody = world.client()
    async with world.unchanged():
        unknown = await nobody.post(f"{root}/{uuid4()}/{token}", content=body, headers=headers)
        assert_problem(unknown, 404, "not_found", "attempt")
        wrong = await nobody.post(f"{root}/{attempt}/{token[:-1]}x", content=body, headers=headers)
        problem = assert_problem(wrong, 401, "unauthorized")
        assert token[:8] not in json.dumps(problem)
        other = await nobody.post(f"/hooks/kie/{attempt}/{token}", content=body, headers=headers)
        assert_problem(other, 401, "unauthorized")
        for path in (f"/hooks/nobody/{attempt}/{token}", f"/hooks/fal/nothing/{token}"):
            assert_problem(await nobody.post(path, content=body, headers=headers), 404, "not_found")


async def test_a_webhook_that_was_changed_or_unsigned_is_forged(world: World) -> None:
    job = await world.submit(fal())
    await world.reaches(job["id"], "completed")
    path, headers, body = await kept_webhook(world, job["id"])
    await settled(world)
    signature = next(name for name in headers if "signature" in name)
    stamp = next(name for name in headers if "timestamp" in name)
    nobody = world.client()
    async with world.unchanged():
        for name, sent, content in [
            ("another body", headers, body.replace(b"OK", b"KO") + b" "),
            ("no signature", {k: v for k, v in headers.items() if k != signature}, body),
            ("another signature", headers | {signature: "00" * 64}, body),
            ("no signature at all", {}, body),
            ("another time", headers | {stamp: str(int(headers[stamp]) - 3600)}, body),
            ("no time", headers | {stamp: "yesterday"}, body),
            ("nothing", {}, b""),
        ]:
            answer = await nobody.post(path, content=content, headers=sent)
            assert answer.status_code == 401, name
            assert_problem(answer, 401, "unauthorized", "did not prove")


async def test_forged_and_stale_webhooks_change_nothing_and_the_job_still_completes(world: World) -> None:
    """The forgery says that the job failed; the truth is at the provider, and a reader finds it (J5)."""
    bodies = [
        fal({"webhook": "forged"}),
        fal({"webhook": "stale"}),
        kie({"webhook": "forged"}),
        kie({"webhook": "stale"}),
    ]
    jobs = [await world.submit(body) for body in bodies]
    for job in jobs:
        [first, *_] = await delivered(world, job["id"])
        assert first["status"] == 401, first
        assert not await world.rows("select 1 from inbox where job_id = $1", UUID(job["id"]))
        await world.value("update job_work set heard_at = now() - interval '1 hour' where job_id = $1", UUID(job["id"]))
        done = await world.reaches(job["id"], "completed")
        assert done["credits"]["charged"] == done["credits"]["quoted"]


async def test_a_doubled_webhook_makes_one_result_and_one_charge(world: World) -> None:
    before = await world.wallet()
    jobs = [await world.submit(body) for body in (fal({"webhook": "double"}), kie({"webhook": "double"}))]
    done = [await world.reaches(job["id"], "completed") for job in jobs]
    for job in jobs:
        assert [each["status"] for each in await delivered(world, job["id"], 2)] == [200, 200]
    await settled(world)
    charged = sum(job["credits"]["charged"] for job in done)
    assert (await world.wallet())["balance"] == before["balance"] - charged
    items, _ = await world.everything(f"{world.p}/generations")
    assert sorted(item["job_id"] for item in items) == sorted(job["id"] for job in jobs)
