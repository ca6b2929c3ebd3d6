"""Models and providers over HTTP: what is offered, models by API on every node, how the providers are (P1, P6)."""

from __future__ import annotations

from typing import Any

import httpx
import jsonschema
from api_world import Build, World, assert_problem, fal, ok, small, until

SKETCH = {
    "name": "Sketch",
    "kind": "image",
    "description": "Ours.",
    "routes": [
        {"provider": "fal", "endpoint": "fal-ai/flux/schnell"},
        {
            "provider": "local",
            "endpoint": "aurora",
            "input": {"omit": ["image_size"], "extra": {"width": 64, "height": 64}},
        },
    ],
    "price": {"unit": "picture", "amount": 7},
    "aliases": ["sketch"],
    "fields": [
        {"name": "prompt", "type": "text", "label": "Prompt", "required": True},
        {"name": "image_size", "type": "select", "label": "Size", "options": ["square"], "custom_size": True},
    ],
}
PATH = "/v1/admin/models/house/sketch"


async def offered(world: World, name: str) -> dict[str, Any] | None:
    items = ok(await world.api.get("/v1/models"))["items"]
    return next((item for item in items if item["id"] == name), None)


async def test_a_model_says_what_it_costs_how_long_it_takes_who_makes_it_and_what_it_takes(world: World) -> None:
    schnell = await offered(world, "fal-ai/flux/schnell")
    assert schnell is not None
    assert schnell["price"]["amount"] > 0
    assert schnell["eta_s"] > 0
    assert schnell["providers"] == [
        {"name": "fal", "endpoint": "fal-ai/flux/schnell", "enabled": True, "price": None, "breaker": "closed"}
    ]
    jsonschema.Draft202012Validator.check_schema(schnell["schema"])
    check = jsonschema.Draft202012Validator(schnell["schema"])
    assert check.is_valid(fal()["input"])
    assert not check.is_valid({"prompt": 7})
    refused = await world.api.post(f"{world.p}/jobs", json={"model": "fal-ai/flux/schnell", "input": {"prompt": 7}})
    problem = assert_problem(refused, 422, "invalid_input")
    assert problem["errors"][0]["loc"] == ["body", "input", "prompt"]


async def test_an_unknown_model_is_answered_with_the_nearest(world: World) -> None:
    for asked, meant in (("fal-ai/flux/schnel", "fal-ai/flux/schnell"), ("aurora", "local/aurora")):
        refused = await world.api.post(f"{world.p}/jobs", json=small(model=asked))
        assert meant in assert_problem(refused, 422, "unknown_model", meant)["suggestions"]


async def test_a_model_by_api_is_there_at_once_on_all_nodes_and_until_it_is_deleted(build: Build) -> None:
    world = await build()
    other = await build(roles=("api",))
    ok(await world.admin.put(PATH, json=SKETCH), 201)
    assert ok(await world.admin.get(PATH))["model"]["name"] == "Sketch"
    assert (await offered(world, "house/sketch") or {})["aliases"] == ["sketch"]

    async def is_there_too() -> bool:
        return await offered(other, "house/sketch") is not None

    await until(is_there_too, "the other node to know it")
    job = await world.submit({"model": "sketch", "input": {"prompt": "a red fox"}})
    assert (job["model"], job["credits"]["quoted"]) == ("house/sketch", 7)
    await world.reaches(job["id"], "completed")

    ok(await world.admin.put(PATH, json={**SKETCH, "price": {"unit": "picture", "amount": 9}}))
    assert (
        ok(await world.api.post(f"{world.p}/quote", json={"model": "sketch", "input": {"prompt": "x"}}))["credits"] == 9
    )
    assert [each["id"] for each in ok(await world.admin.get("/v1/admin/models"))["items"]] == ["house/sketch"]
    ok(await world.admin.delete(PATH), 204)
    assert await offered(world, "house/sketch") is None
    assert_problem(await world.admin.get(PATH), 404, "not_found")
    assert_problem(await world.admin.delete("/v1/admin/models/local/aurora"), 404, "not_found", "comes from a file")


async def test_a_wrong_model_is_refused_with_the_place_of_each_mistake(world: World) -> None:
    wrong: list[tuple[dict[str, Any], list[Any]]] = [
        ({"price": {"unit": "furlong", "amount": 7}}, ["body", "price", "unit"]),
        ({"nmae": "Sketch"}, ["body", "nmae"]),
        ({"routes": [{"provider": "nobody", "endpoint": "x"}]}, ["body", "routes", 0, "provider"]),
        ({"eta_s": 0}, ["body", "eta_s"]),
        ({"eta_s": 1e308}, ["body", "eta_s"]),
        ({"routes": [{"provider": "fal", "endpoint": "x", "timeout_s": 1e308}]}, ["body", "routes", 0, "timeout_s"]),
        ({"price": {"unit": "picture", "amount": 2**62}}, ["body", "price", "amount"]),
        ({"aliases": ["local/aurora"]}, ["body", "aliases", 0]),
    ]
    for change, loc in wrong:
        refused = await world.admin.put(PATH, json={**SKETCH, **change})
        assert loc in [each["loc"] for each in assert_problem(refused, 422, "invalid_input")["errors"]], change
    assert_problem(await world.admin.put(PATH, json={**SKETCH, "description": "a\0b"}), 422, "invalid_input")
    assert_problem(await world.api.put(PATH, json=SKETCH), 403, "forbidden")
    assert await offered(world, "house/sketch") is None


async def test_an_outage_shows_and_the_job_says_who_made_it(world: World) -> None:
    ok(await world.admin.put(PATH, json=SKETCH), 201)
    async with httpx.AsyncClient(trust_env=False) as client:
        down = {"submit": "503_gateway", "submit_times": 1_000_000}
        (await client.put(f"{world.emulators.fal_url}/_emulator/faults", json=down)).raise_for_status()
        try:
            jobs = [await world.submit({"model": "sketch", "input": {"prompt": f"fox {n}"}}) for n in range(8)]
            for job in jobs:
                assert (await world.reaches(job["id"], "completed"))["provider"] == "local"
        finally:
            (await client.delete(f"{world.emulators.fal_url}/_emulator/faults")).raise_for_status()
    attempts = ok(await world.api.get(f"/v1/jobs/{jobs[0]['id']}/attempts"))["items"]
    assert [(each["provider"], each["state"], each["late"]) for each in attempts] == [
        ("fal", "refused", False), ("local", "succeeded", False),
    ]  # fmt: skip
    listed = {each["name"]: each for each in ok(await world.admin.get("/v1/admin/providers"))["items"]}
    assert listed["fal"]["breaker"]["state"] in ("open", "half_open")
    assert "out of service" in listed["fal"]["breaker"]["said"]
    assert listed["local"]["breaker"]["state"] == "closed"
    assert listed["fal"]["endpoints"] == []
    figures = (await world.client().get("/metrics")).text
    for name in ("safelight_breaker_state", "safelight_breaker_endpoints_open"):
        assert f'{name}{{provider="fal"}}' in figures
    assert_problem(await world.api.get("/v1/admin/providers"), 403, "forbidden")
