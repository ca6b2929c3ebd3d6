"""What the provider made becomes ours, or the job says why not (M1, M4); what comes later comes as a change (M2)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from jobs_promises import books_balance
from jobs_world import CREDITS, Build, World, until

from safelight.jobs.settle import Result, StoredOutput

both = pytest.mark.parametrize("what", ["fal", "kie"])


@both
@pytest.mark.parametrize("fault", ["mislabeled", "redirect", "slow"])
async def test_a_result_that_is_odd_but_right_is_kept(build: Build, what: str, fault: str):
    world = await build()
    job_id = await world.submit(what, {"result": fault, "slow_s": 0.5})
    await world.reaches(job_id, "completed")
    await books_balance(world)


@both
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("expired", "result_expired"),
        ("truncated", "result_truncated"),
        ("wrong_type", "result_not_media"),
        ("huge", "result_too_large"),
        ("private_url", "private_address"),
        ("redirect_private", "private_address"),
        ("cut", None),
    ],
)
async def test_a_result_that_cannot_be_kept_fails_with_its_reason_and_costs_nothing(
    build: Build, what: str, fault: str, code: str | None
):
    world = await build(policy={"store_tries_max": 2})
    job_id = await world.submit(what, {"result": fault})
    job = await world.reaches(job_id, "failed")
    assert job["error"]["code"] == code or (code is None and job["error"]["code"].startswith("result_"))
    assert job["attempt"] == 1  # bought once: the same files would come again
    assert (await world.wallet()).available == CREDITS
    assert await world.rows("select 1 from generations") == []
    await books_balance(world)


async def test_a_result_whose_address_is_refused_is_fetched_by_a_fresh_one(build: Build):
    world = await build()
    job_id = await world.submit("kie", {"result": "forbidden"})
    await world.reaches(job_id, "completed")
    assert "store_failed" in await world.steps(job_id)
    await books_balance(world)


@pytest.mark.parametrize("faults", [{"result": "504_once"}, {"result": "data_uri"}, {"requeue": True}])
async def test_fals_own_oddities_end_well(build: Build, faults: dict[str, Any]):
    world = await build()
    job_id = await world.submit("fal", {**faults, "latency_s": 0.3})
    await world.reaches(job_id, "completed")
    await books_balance(world)


@both
async def test_a_success_without_any_file_is_a_failure(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what, {"result": "none"})
    job = await world.reaches(job_id, "failed")
    assert job["error"]["code"] == "no_output"
    assert (await world.wallet()).available == CREDITS
    await books_balance(world)


async def test_results_that_the_door_does_not_let_in_stay_outside(build: Build):
    """The emulators are on this machine: without the operator's word their files are on a private network."""
    world = await build(allow_emulators_address=False)
    job_id = await world.submit("fal")
    job = await world.reaches(job_id, "failed")
    assert job["error"]["code"] == "private_address"
    await books_balance(world)


@pytest.mark.parametrize("has_target", [False, True])
async def test_what_was_made_is_charged_and_never_more_than_the_quote(build: Build, has_target: bool):
    world = await build(workers=0)
    node = await world.node()
    settling = asyncio.create_task(node.parts.settler.run())
    for n, made in ((4, 3), (3, 1), (1, 1), (2, 5)):
        job_id = await world.submit("local", n=n, input={"prompt": "x" * 5000})
        await to_storing(world, job_id)
        outputs = [await an_output(world) for _ in range(made)]
        done = await node.parts.settler.settle(Result(job_id, 1, outputs, has_target=has_target))
        assert done.is_ours
        job = await world.job(job_id)
        assert job["charged"] == job["quoted"] * min(made, n) // n
    settling.cancel()
    prompts = await world.rows("select distinct length(prompt) as n from generations")
    assert [row["n"] for row in prompts] == [5000]
    await books_balance(world)


# --- trouble on our side --------------------------------------------------------------------------------------


async def test_files_in_a_dead_workers_hands_are_asked_for_again_not_bought_again(build: Build):
    world = await build(workers=0)
    job_id = await world.submit("fal", {"result": "data_uri"})
    node = await world.node()
    put_file = world.store.put_file

    async def die(*_: Any) -> None:
        raise OSError("no space left on device")

    world.store.put_file = die  # type: ignore[method-assign]
    node.start()

    async def failed_once() -> bool:
        return "store_failed" in await world.steps(job_id)

    await until(failed_once)
    await node.die()
    world.store.put_file = put_file  # type: ignore[method-assign]
    await world.start_node()
    job = await world.reaches(job_id, "completed")
    assert job["attempt"] == 1
    assert sum((await world.accepted(job_id)).values()) == 1
    await books_balance(world)


@pytest.mark.parametrize("what", ["fal", "local"])
async def test_a_store_that_never_takes_a_file_ends_the_job(build: Build, what: str):
    world = await build(workers=0, policy={"store_tries_max": 2})
    job_id = await world.submit(what)
    node = await world.node()

    async def refuse(*_: Any) -> None:
        raise RuntimeError("a bug of ours")

    world.store.put_file = refuse  # type: ignore[method-assign]
    node.start()
    job = await world.reaches(job_id, "failed")
    assert job["error"]["code"] == "store_failed"
    assert (await world.steps(job_id)).count("store_failed") == 2
    assert (await world.wallet()).available == CREDITS
    await books_balance(world)


async def an_output(world: World, **columns: Any) -> StoredOutput:
    given = {"kind": "image", "mime": "image/png", "bytes": 3, "files": {"original": "a/b.png"}}
    await world.store.put_bytes("a/b.png", b"abc", "image/png")
    return StoredOutput(**(given | columns))


async def to_storing(world: World, job_id: Any) -> None:
    """As if a provider had just finished it."""
    async with world.db.connection() as conn:
        await conn.execute(
            "insert into attempts (id, job_id, project_id, number, provider, endpoint, token_hash, state)"
            " select gen_random_uuid(), id, project_id, 1, provider, endpoint, '', 'accepted' from jobs where id = $1",
            job_id,
        )
        await conn.execute("update jobs set stage = 'submitting', attempt = 1 where id = $1", job_id)
        await conn.execute("update jobs set stage = 'storing' where id = $1", job_id)


async def test_one_poisonous_result_does_not_take_the_others_of_its_batch_down(build: Build):
    world = await build(workers=0)
    jobs = [await world.submit("local") for _ in range(5)]
    for job_id in jobs:
        await to_storing(world, job_id)
    node = await world.node()
    outputs = [[await an_output(world, kind="hologram" if index == 2 else "image")] for index in range(5)]
    settling = asyncio.create_task(node.parts.settler.run())
    results = [Result(job_id, 1, output) for job_id, output in zip(jobs, outputs, strict=True)]
    # And one of them twice, as after a doubled webhook.
    answers = await asyncio.gather(
        *(node.parts.settler.settle(result) for result in [*results, results[0]]), return_exceptions=True
    )
    settling.cancel()
    assert [isinstance(answer, Exception) for answer in answers] == [False, False, True, False, False, False]
    assert sum(not isinstance(answer, BaseException) and answer.is_ours for answer in answers) == 4
    assert {(await world.job(job_id))["stage"] for job_id in jobs if job_id != jobs[2]} == {"completed"}
    assert (await world.job(jobs[2]))["stage"] == "storing"
    # Its files were in hand only: a worker makes them again.
    await world.start_node()
    await world.reaches(jobs[2], "completed")
    await books_balance(world)


async def test_a_result_that_cannot_be_recorded_is_not_tried_for_ever(build: Build):
    world = await build(policy={"store_tries_max": 2})
    async with world.db.connection() as conn:
        await conn.execute("alter table generations add check (prompt <> 'poison')")
    bad = await world.submit("fal", input={"prompt": "poison"})
    good = [await world.submit("fal") for _ in range(3)]
    for job_id in good:
        await world.reaches(job_id, "completed")
    job = await world.reaches(bad, "failed")
    assert job["error"]["code"] == "settle_failed"
    assert job["error"]["retryable"] is True
    assert sum((await world.accepted(bad)).values()) == 1
    await books_balance(world)


# --- later (M2) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["local", "local clip"])
async def test_larger_thumbnails_arrive_later_as_a_change(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what)
    job = await world.reaches(job_id, "completed")
    (identity,) = job["generations"]

    async def has_large() -> Any:
        return await world.value("select files -> 'thumbs' ? '1024' from generations where id = $1", identity)

    await until(has_large)
    files = await world.value("select files from generations where id = $1", identity)
    for key in [*files["thumbs"].values(), *files["avif"].values()]:
        await world.store.head(key)
    ops = await world.rows("select op from changes where tbl = 'generations' and id = $1 order by seq", identity)
    assert [row["op"] for row in ops] == ["insert", "update"]
    await books_balance(world)


async def test_a_light_original_is_its_own_large_thumbnail(build: Build):
    world = await build()
    job_id = await world.submit("fal", input={"image_size": {"width": 640, "height": 480}})
    job = await world.reaches(job_id, "completed")
    (identity,) = job["generations"]
    row = (await world.rows("select mime, files from generations where id = $1", identity))[0]
    assert row["mime"] == "image/jpeg"
    assert row["files"]["thumbs"]["1024"] == row["files"]["original"]
    assert row["files"]["thumbs"]["256"] != row["files"]["original"]
    assert await world.value("select count(*) from pgqueuer.pgqueuer where entrypoint = 'derive'") == 0


async def test_a_progress_of_work_on_this_machine_is_pushed_and_kept(build: Build):
    world = await build()
    job_id = await world.submit("local clip", input={"duration": 5, "width": 480, "height": 270})

    async def has_percent() -> Any:
        return (await world.job(job_id))["percent"]

    await until(has_percent)
    await world.reaches(job_id, "completed")
    percents = [each["percent"] for each in world.published if each["job_id"] == str(job_id)]
    known = [percent for percent in percents if percent is not None]
    assert known == sorted(known)
    assert all(0 <= percent <= 100 for percent in known)
    await books_balance(world)
