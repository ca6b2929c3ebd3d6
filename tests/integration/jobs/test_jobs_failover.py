"""Several providers for one model (P6): who is asked next, what is never asked twice, and what comes too late."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import msgspec
from jobs_promises import books_balance
from jobs_world import REGISTRY, Build, World, submission, until

from safelight.jobs.breaker import Gate, Rule
from safelight.jobs.submission import Submission
from safelight.providers.model import Model, Route, RouteInput
from safelight.providers.registry import Registry

_FLUX = REGISTRY.get("fal-ai/flux/schnell")
assert _FLUX is not None
SMALL = RouteInput(omit=("image_size",), extra={"width": 64, "height": 64})


def fox(*, timeout_s: float | None = None) -> Model:
    """Made by fal, else by Replicate, which is told the size in its own words."""
    assert _FLUX is not None
    fal = Route(provider="fal", endpoint="fal-ai/flux/schnell", timeout_s=timeout_s)
    replicate = Route(provider="replicate", endpoint="black-forest-labs/flux-schnell", input=SMALL)
    return msgspec.structs.replace(_FLUX, id="house/fox", routes=(fal, replicate))


def offering(*models: Model) -> Registry:
    return Registry([*REGISTRY, *models])


def wanted(**given: Any) -> Submission:
    # The same seed each time: the emulator makes the picture once.
    body = {"prompt": "a red fox", "seed": 7, "image_size": {"width": 64, "height": 64}}
    return Submission(model="house/fox", input=body, **given)


async def fault(world: World, provider: str, **faults: Any) -> None:
    """Of every submit to this provider from now on; none: it is well."""
    url = getattr(world.emulators, f"{provider}_url")
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.put(f"{url}/_emulator/faults", json=faults)).raise_for_status()


DOWN = {"submit": "503_gateway", "submit_times": 1_000_000}


async def told(world: World, job_id: UUID) -> list[tuple[str, str]]:
    return [(row["provider"], row["state"]) for row in await world.attempts(job_id)]


async def test_a_provider_that_is_out_of_service_is_left_for_the_next_at_once(build: Build):
    world = await build(registry=offering(fox()))
    await fault(world, "fal", **DOWN)
    job_id = await world.submit(wanted())
    job = await world.reaches(job_id, "completed")
    assert await told(world, job_id) == [("fal", "refused"), ("replicate", "succeeded")]
    assert (job["provider"], job["attempt"], job["tries"]) == ("replicate", 2, 1)
    moved = next(step for step in await world.trace(job_id) if step["step"] == "moved_on")
    assert moved["detail"] == {"why": "provider_unavailable", "from": "fal", "to": "replicate"}
    async with httpx.AsyncClient(trust_env=False) as client:
        listed = (await client.get(f"{world.emulators.replicate_url}/_emulator/requests")).json()
    attempt = (await world.attempts(job_id))[1]
    asked = next(each["input"] for each in listed if each["attempt"] == str(attempt["id"]))
    assert (asked["width"], asked["height"]) == (64, 64)
    assert "image_size" not in asked
    await books_balance(world)


async def test_a_task_that_fails_in_passing_is_made_by_the_next(build: Build):
    world = await build(registry=offering(fox()))
    await fault(world, "fal", fail="transient")
    job_id = await world.submit(wanted())
    job = await world.reaches(job_id, "completed")
    assert await told(world, job_id) == [("fal", "failed"), ("replicate", "succeeded")]
    assert job["charged"] == job["quoted"]
    await books_balance(world)


async def test_an_empty_account_at_the_first_is_no_end(build: Build):
    world = await build(registry=offering(fox()))
    await fault(world, "fal", submit="402", submit_times=1_000_000)
    first, second = [await world.submit(wanted()) for _ in range(2)]
    for job_id in (first, second):
        await world.reaches(job_id, "completed")
        assert (await told(world, job_id))[-1] == ("replicate", "succeeded")
    await books_balance(world)


async def test_one_that_takes_too_long_is_stopped_and_the_next_is_asked(build: Build):
    world = await build(registry=offering(fox(timeout_s=1.0)), policy={"cancel_grace_s": 30.0})
    await fault(world, "fal", latency_s=3000.0)
    job_id = await world.submit(wanted())
    await world.reaches(job_id, "completed")
    assert await told(world, job_id) == [("fal", "canceled"), ("replicate", "succeeded")]
    assert "cancel_sent" in await world.steps(job_id)
    await books_balance(world)


async def test_a_result_that_comes_when_the_job_has_gone_on_is_noted_and_neither_shown_nor_charged(build: Build):
    # It is made soon, but that is not to be seen for many looks; nor does a webhook tell of it.
    world = await build(registry=offering(fox(timeout_s=1.0)), policy={"cancel_grace_s": 0.5})
    await fault(world, "fal", status="500", status_times=8, webhook="lost")
    job_id = await world.submit(wanted())
    job = await world.reaches(job_id, "completed")
    assert await told(world, job_id) == [("fal", "abandoned"), ("replicate", "succeeded")]

    async def noted() -> bool:
        await world.rows("update attempts set watched_at = null where state = 'abandoned' returning 1")
        await world.nodes[0].watch_abandoned()
        return bool(await world.value("select late from attempts where job_id = $1 and provider = 'fal'", job_id))

    await until(noted, "the late result")
    first = (await world.attempts(job_id))[0]
    assert first["state"] == "succeeded"
    assert first["cost"]
    assert first["outputs"]
    assert (await world.steps(job_id)).count("late_result") == 1
    assert await world.value("select count(*) from generations where job_id = $1", job_id) == 1
    assert (await world.job(job_id))["charged"] == job["quoted"]
    await books_balance(world)


async def test_a_job_that_names_its_provider_waits_for_it(build: Build):
    world = await build(registry=offering(fox()))
    await fault(world, "fal", **DOWN)
    job_id = await world.submit(wanted(provider="fal"))

    async def was_refused() -> bool:
        return "refused" in await world.steps(job_id)

    await until(was_refused)
    await fault(world, "fal")
    job = await world.reaches(job_id, "completed")
    assert (job["provider"], job["attempt"]) == ("fal", 1)
    await books_balance(world)


async def test_a_lost_answer_is_waited_for_and_not_bought_elsewhere(build: Build):
    world = await build(registry=offering(fox()), policy={"unknown_grace_s": 600.0})
    await fault(world, "fal", submit="lose_answer", latency_s=0.5)
    found = await world.submit(wanted())
    assert (await world.reaches(found, "completed"))["provider"] == "fal", "its webhook tells of it"
    await fault(world, "fal", submit="lose_request", submit_times=1_000_000)
    lost = await world.submit(wanted())
    await world.reaches(lost, "unknown")
    # An hour later.
    await world.rows("update attempts set sent_at = sent_at - interval '1 hour' where job_id = $1 returning 1", lost)
    await world.rows("update job_work set look_at = now() where job_id = $1 returning 1", lost)
    assert (await world.reaches(lost, "failed"))["error"]["code"] == "submit_unknown"
    assert await told(world, lost) == [("fal", "abandoned")]
    assert not await world.accepted(lost)
    await books_balance(world)


async def test_after_the_grace_the_operators_policy_may_ask_the_next(build: Build):
    world = await build(registry=offering(fox()), policy={"unknown_grace_s": 1.0, "unknown_then": "resubmit"})
    await fault(world, "fal", submit="lose_request", submit_times=1_000_000)
    job_id = await world.submit(wanted())
    await world.reaches(job_id, "completed")
    assert await told(world, job_id) == [("fal", "abandoned"), ("replicate", "succeeded")]
    await books_balance(world)


async def test_who_takes_everything_and_makes_nothing_of_it_is_left_for_the_next_until_its_probe_is_made(build: Build):
    rule = Rule(failures_max=2, window_s=600.0, cool_down_s=600.0, cool_down_max_s=600.0, probe_s=600.0)
    world = await build(registry=offering(fox()), policy={"task_breaker": rule})
    await fault(world, "fal", fail="transient")
    for _ in range(2):
        job_id = await world.submit(wanted())
        await world.reaches(job_id, "completed")
        assert await told(world, job_id) == [("fal", "failed"), ("replicate", "succeeded")]
    job_id = await world.submit(wanted())
    await world.reaches(job_id, "completed")
    assert await told(world, job_id) == [("replicate", "succeeded")], "it is not asked any more"
    breakers = "select endpoint, state, said from provider_breakers where provider = 'fal'"
    (row,) = await world.rows(breakers)
    assert (row["endpoint"], row["state"]) == ("fal-ai/flux/schnell", "open")
    assert row["said"].startswith("The provider could not make this")

    # Ten minutes later, and it is well again: one job is its probe, and nobody else is sent until that is made.
    await fault(world, "fal", latency_s=3000.0)
    await world.rows("update provider_breakers set until = now() returning 1")

    async def may_probe() -> bool:
        return world.nodes[0].parts.breakers.gate(fox().routes[0]) is Gate.PROBE

    await until(may_probe)
    probe = await world.submit(wanted(provider="fal"))
    await world.reaches(probe, "submitted", "running")
    other = await world.submit(wanted())
    await world.reaches(other, "completed")
    assert await told(world, other) == [("replicate", "succeeded")]
    assert [row["state"] for row in await world.rows(breakers)] == ["half_open"]

    # The user stops it: that says nothing, and the next is the probe.
    await world.service.cancel(probe)
    await world.reaches(probe, "canceled")
    await fault(world, "fal")
    last = await world.submit(wanted(provider="fal"))
    await world.reaches(last, "completed")
    assert [row["state"] for row in await world.rows(breakers)] == ["closed"]
    await books_balance(world)


async def test_a_probe_that_dies_with_its_worker_is_taken_up_by_another(build: Build):
    rule = Rule(failures_max=1, cool_down_s=0.2, cool_down_max_s=0.2, probe_s=2.0)
    world = await build(
        registry=offering(fox()), policy={"breaker": rule, "submit_timeout_s": 300.0, "unknown_grace_s": 600.0}
    )
    await fault(world, "fal", **DOWN)
    await world.reaches(await world.submit(wanted()), "completed")
    await fault(world, "fal", submit="hang", latency_s=0.3)
    probe = await world.submit(wanted(provider="fal"))
    await world.reaches(probe, "submitting")
    assert await world.value("select state from provider_breakers where provider = 'fal'") == "half_open"
    await world.nodes[0].die()
    await fault(world, "fal")
    await world.start_node()
    job_id = await world.submit(wanted(provider="fal"))
    assert (await world.reaches(job_id, "completed"))["provider"] == "fal"
    assert await world.value("select state from provider_breakers where provider = 'fal'") == "closed"
    assert (await world.reaches(probe, "completed"))["attempt"] == 1, "its webhook tells of it; it is bought once"
    await books_balance(world)


async def test_a_job_whose_user_gives_up_while_it_waits_for_a_provider_is_canceled_at_once(build: Build):
    rule = Rule(failures_max=1, cool_down_s=600.0, cool_down_max_s=600.0)
    world = await build(registry=offering(fox()), policy={"breaker": rule})
    for provider in ("fal", "replicate"):
        await fault(world, provider, **DOWN)
    before = (await world.wallet()).balance
    job_id, other = await world.submit(wanted()), await world.submit(wanted())
    for each in (job_id, other):

        async def waits(each: UUID = each) -> bool:
            return await world.value("select blocked from job_work where job_id = $1", each) == "breaker"

        await until(waits, "the breakers to open")
    await world.service.cancel(job_id)
    assert (await world.job(job_id))["stage"] == "canceled"
    # The other's time passes: neither does it wait for the breakers, which are open for longer.
    await world.rows("update jobs set deadline_at = now() where id = $1 returning 1", other)
    await world.rows("update job_work set look_at = now() where job_id = $1 returning 1", other)
    ended = await world.reaches(other, "expired")
    assert ended["error"]["code"] == "deadline_exceeded"
    assert not await world.accepted(job_id)
    assert not await world.accepted(other)
    assert (await world.wallet()).balance == before
    await books_balance(world)


async def test_jobs_of_a_provider_that_was_taken_away_still_come_to_an_end(build: Build):
    world = await build(policy={"cancel_grace_s": 0.5})
    jobs = [await world.submit("luma", {"latency_s": 3000.0}) for _ in range(2)]
    for job_id in jobs:
        await world.reaches(job_id, "submitted", "running")
    # Its file is gone from the settings.
    for node in (world, world.nodes[0]):
        del node.providers["luma"]
    late, unwanted = jobs
    await world.service.cancel(unwanted)
    await world.reaches(unwanted, "canceled")
    await world.rows("update jobs set deadline_at = now() where id = $1 returning 1", late)
    await world.rows("update job_work set look_at = now() where job_id = $1 returning 1", late)
    await world.reaches(late, "expired")
    assert not world.nodes[0].parts.providers.keys() & {"luma"}
    await books_balance(world)


async def test_with_all_of_them_down_a_job_waits_in_the_queue_says_why_and_goes_on_by_itself(build: Build):
    rule = Rule(failures_max=2, cool_down_s=3.0, cool_down_max_s=3.0)
    world = await build(registry=offering(fox()), policy={"breaker": rule})
    for provider in ("fal", "replicate"):
        await fault(world, provider, **DOWN)
    jobs = [await world.submit(wanted()) for _ in range(4)]

    async def they_wait() -> bool:
        # But for one that may be probing just now.
        waiting = """
            select count(*) from job_work w join jobs j on j.id = w.job_id join job_progress p on p.job_id = w.job_id
            where w.blocked = 'breaker' and j.stage = 'queued' and p.message like '%out of service%'
            """
        return await world.value(waiting) >= len(jobs) - 1

    await until(they_wait, "the breakers to open")
    for provider in ("fal", "replicate"):
        await fault(world, provider)
    for job_id in jobs:
        await world.reaches(job_id, "completed")
    states = await world.rows("select provider from provider_breakers where state = 'closed'")
    assert states, "a probe closed it"
    await books_balance(world)


async def test_what_one_node_learns_all_nodes_know(build: Build):
    rule = Rule(failures_max=2, cool_down_s=600.0, cool_down_max_s=600.0)
    world = await build(registry=offering(fox()), policy={"breaker": rule})
    await fault(world, "fal", **DOWN)
    for job_id in [await world.submit(wanted()) for _ in range(3)]:
        await world.reaches(job_id, "completed")
    other = await world.start_node()
    await world.nodes[0].stop()

    async def knows() -> bool:
        return 'breaker_state{provider="fal"} 2.0' in (await other.parts.metrics.render()).decode()

    await until(knows)
    job_id = await world.submit(wanted())
    await world.reaches(job_id, "completed")
    assert await told(world, job_id) == [("replicate", "succeeded")], "fal is not asked at all"
    await books_balance(world)


async def test_a_persons_retry_begins_with_the_first_choice_again(build: Build):
    world = await build(registry=offering(fox()), policy={"tries_max": 2})
    for provider in ("fal", "replicate"):
        await fault(world, provider, fail="transient")
    job_id = await world.submit(wanted())
    assert (await world.reaches(job_id, "failed"))["provider"] == "replicate"
    for provider in ("fal", "replicate"):
        await fault(world, provider)
    await world.service.retry(job_id)
    assert (await world.reaches(job_id, "completed"))["provider"] == "fal"
    await books_balance(world)


async def test_a_good_day_asks_the_database_nothing_about_breakers(build: Build):
    world = await build(registry=offering(fox()))
    for what in (wanted(), submission("fal")):
        await world.reaches(await world.submit(what), "completed")
    assert await world.value("select count(*) from provider_breakers") == 0
