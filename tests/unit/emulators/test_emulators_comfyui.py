"""The emulated ComfyUI says what a real one says (providers.md §5)."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from emulator_desk import until
from websockets.asyncio.client import connect

from safelight.emulators.serve import Address, serving
from safelight.emulators.settings import EmulatorSettings

GRAPH = json.loads(
    (Path(__file__).parents[2] / "integration" / "providers" / "comfyui_workflows" / "portrait.json").read_text()
)


class Comfy:
    def __init__(self, at: Address, client: httpx.AsyncClient) -> None:
        self.at = at
        self.client = client

    async def prompt(self, graph: object = GRAPH, faults: dict[str, Any] | None = None, **given: Any) -> httpx.Response:
        extra = {"_emulator": {"latency_s": 0.1, **(faults or {})}}
        return await self.client.post("/prompt", json={"prompt": graph, "extra_data": extra, **given})

    async def ended(self, prompt_id: str) -> dict[str, Any]:
        entry: dict[str, Any] = {}
        while not entry:
            entry = (await self.client.get(f"/history/{prompt_id}")).json().get(prompt_id, {})
        return entry


@pytest.fixture
async def comfy() -> AsyncIterator[Comfy]:
    async with (
        serving(EmulatorSettings(media_threads=1)) as at,
        httpx.AsyncClient(base_url=at.comfyui_url, timeout=30, trust_env=False) as client,
    ):
        yield Comfy(at, client)


def changed(node: str, **inputs: object) -> dict[str, Any]:
    graph = copy.deepcopy(GRAPH)
    graph[node]["inputs"] |= inputs
    return graph


async def test_a_prompt_runs_under_the_id_that_the_client_chose(comfy: Comfy):
    chosen = str(uuid4())
    taken = await comfy.prompt(prompt_id=chosen, faults={"latency_s": 30, "queue_s": 0})
    assert taken.json() == {"prompt_id": chosen, "number": 1, "node_errors": {}}
    assert (await comfy.client.get(f"/history/{chosen}")).json() == {}
    ((number, prompt_id, graph, extra, outputs),) = (await comfy.client.get("/queue")).json()["queue_running"]
    assert (number, prompt_id, graph, outputs) == (1, chosen, GRAPH, ["9"])
    assert extra["client_id"] is None
    bad = await comfy.prompt(prompt_id="not a uuid")
    assert (bad.status_code, bad.json()["error"]["type"]) == (400, "invalid_prompt_id")


async def test_what_was_made_is_in_history_and_every_route_is_also_below_api(comfy: Comfy):
    prompt_id = (await comfy.prompt()).json()["prompt_id"]
    entry = await comfy.ended(prompt_id)
    assert entry["status"]["status_str"] == "success"
    assert [name for name, _ in entry["status"]["messages"]] == ["execution_start", "execution_success"]
    (file,) = entry["outputs"]["9"]["images"]
    picture = await comfy.client.get("/api/view", params=file)
    assert picture.headers["content-type"] == "image/png"
    assert (await comfy.client.get("/view", params={"filename": "../../etc/passwd"})).status_code == 400
    assert prompt_id in (await comfy.client.get("/api/history?max_items=5")).json()


@pytest.mark.parametrize(
    ("graph", "kind", "node_error"),
    [
        ({}, "no_prompt", None),
        ({"1": {"class_type": "MissingNode", "inputs": {}}}, "missing_node_type", None),
        ({"1": {"class_type": "KSampler", "inputs": {}}}, "prompt_no_outputs", None),
        (changed("4", ckpt_name="nowhere.ckpt"), "prompt_outputs_failed_validation", "value_not_in_list"),
        (changed("3", steps=0), "prompt_outputs_failed_validation", "value_smaller_than_min"),
        (changed("3", steps="many"), "prompt_outputs_failed_validation", "invalid_input_type"),
    ],
)
async def test_a_graph_that_cannot_run_is_refused_node_by_node(comfy: Comfy, graph, kind, node_error):
    answer = await comfy.prompt(graph)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == kind
    told = [each["type"] for node in answer.json()["node_errors"].values() for each in node["errors"]]
    assert told == ([node_error] if node_error else [])


async def test_an_interrupt_without_a_name_stops_whatever_runs_and_one_with_a_name_only_that(comfy: Comfy):
    one, two = [(await comfy.prompt(faults={"latency_s": 60, "queue_s": 0})).json()["prompt_id"] for _ in range(2)]
    await comfy.client.post("/interrupt", json={"prompt_id": one})
    entry = await comfy.ended(one)
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    assert (await comfy.client.get(f"/history/{two}")).json() == {}
    await comfy.client.post("/interrupt", json={})
    assert await comfy.ended(two)


async def test_a_prompt_deleted_from_the_queue_leaves_no_trace(comfy: Comfy):
    prompt_id = (await comfy.prompt(faults={"latency_s": 60, "queue_s": 60})).json()["prompt_id"]
    answer = await comfy.client.post("/queue", json={"delete": [prompt_id]})
    assert (answer.status_code, answer.content) == (200, b"")

    async def queue() -> dict[str, Any]:
        return (await comfy.client.get("/queue")).json()

    while (await queue())["queue_pending"]:
        pass
    assert (await comfy.client.get(f"/history/{prompt_id}")).json() == {}


async def test_the_job_routes_say_whether_they_stopped_it(comfy: Comfy):
    prompt_id = (await comfy.prompt(faults={"latency_s": 60, "queue_s": 0})).json()["prompt_id"]
    for expected in (True, False):
        answer = await comfy.client.post(f"/api/jobs/{prompt_id}/cancel")
        assert answer.json() == {"cancelled": expected}
        await comfy.ended(prompt_id)
    assert (await comfy.client.post(f"/api/jobs/{uuid4()}/cancel")).json() == {"cancelled": False}


async def test_the_socket_tells_the_run_of_its_own_client_in_order(comfy: Comfy):
    url = comfy.at.comfyui_url.replace("http:", "ws:")
    async with (
        connect(f"{url}/ws?clientId=me", proxy=None) as mine,
        connect(f"{url}/ws?clientId=you", proxy=None) as other,
    ):
        hello = json.loads(await mine.recv())
        assert hello["type"] == "status"
        assert hello["data"]["sid"] == "me"
        prompt_id = (await comfy.prompt(client_id="me", faults={"latency_s": 0.5})).json()["prompt_id"]
        events: list[dict[str, Any]] = []
        while not events or events[-1]["data"].get("node", "") is not None:
            frame = await mine.recv()
            if isinstance(frame, str) and (event := json.loads(frame))["type"] != "status":
                events.append(event)
        kinds = list(dict.fromkeys(event["type"] for event in events))
        assert kinds == ["execution_start", "execution_cached", "executing", "progress", "execution_success"]
        assert {event["data"]["prompt_id"] for event in events} == {prompt_id}
        steps = [event["data"]["value"] for event in events if event["type"] == "progress"]
        assert steps == list(range(1, 21))

        heard: list[str] = []
        while len(heard) < 3:  # hello, one waiting, none waiting
            heard.append(json.loads(await other.recv())["type"])
        assert set(heard) == {"status"}


async def test_a_second_socket_of_a_client_takes_the_place_of_the_first(comfy: Comfy):
    url = comfy.at.comfyui_url.replace("http:", "ws:")
    async with connect(f"{url}/ws?clientId=me", proxy=None) as first, connect(f"{url}/ws?clientId=me", proxy=None):
        await first.wait_closed()
        await until(lambda: first.close_code is not None)
