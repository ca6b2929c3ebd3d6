"""schemathesis over the served OpenAPI (issue 2): no 500, and no answer that the contract does not describe."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os

import pytest
import requests
import schemathesis
from api_world import World, ok
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

load_all_checks()
PROMISES = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]
EXAMPLES_MAX = int(os.environ.get("SAFELIGHT_SCHEMATHESIS_EXAMPLES", "4"))
"""Of each operation, valid and then invalid: a minute or so in all. More for whoever asks."""
COVERAGE_MAX = 4 * EXAMPLES_MAX
"""Of the systematic cases (each bound, each type, each missing field) of one operation."""
TIMEOUT_S = 40
STREAMS = ("/changes/stream", "/events")


class Room:
    """What stands in a project, so that ids in paths lead somewhere."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ids: dict[str, itertools.cycle[str]] = {}

    async def fill(self) -> None:
        world = self._world
        pictures = await world.pictures(3)
        jobs = [item["id"] for item in (await world.everything(f"{world.p}/jobs"))[0]]
        shots, nodes, uploads, templates = [], [], [], []
        for index in range(3):
            body = {"name": f"S{index}", "generation_ids": pictures}
            shots.append(ok(await world.api.post(f"{world.p}/shots", json=body), 201)["id"])
            nodes.append(ok(await world.api.post(f"{world.p}/nodes", json={"type": "image"}), 201)["id"])
            uploads.append(ok(await world.api.post(f"{world.p}/uploads", json={"bytes": 10}), 201)["id"])
            content = {"name": "T", "model": "local/aurora", "input": {"prompt": "{A}"}}
            ok(await world.api.put(f"{world.p}/templates/t{index}", json=content))
            templates.append(f"t{index}")
        edge = {"source": nodes[0], "target": nodes[1]}
        edges = [ok(await world.api.post(f"{world.p}/edges", json=edge), 201)["id"]]
        self._ids = {
            name: itertools.cycle(ids)
            for name, ids in {
                "jobs": jobs, "generations": pictures, "shots": shots, "nodes": nodes, "edges": edges,
                "uploads": uploads, "templates": templates, "projects": [world.project],
            }.items()
        }  # fmt: skip

    def furnish(self, case: Case, number: int) -> None:
        """Three of four times the ids in the path are of things that are there. A stream that would stay open, and a
        wait, are not asked for: they are tested by themselves."""
        path = case.operation.path
        if path.startswith("/v1/") and number % 4 and not path.endswith(STREAMS):
            parts = path.split("/")
            for before, part in itertools.pairwise(parts):
                name = part.strip("{}")
                if part.startswith("{") and before in self._ids and name in (case.path_parameters or {}):
                    case.path_parameters[name] = next(self._ids[before])
        if case.query and "wait" in case.query:
            case.query["wait"] = 0
        if isinstance(case.body, dict) and "wait" in case.body:
            case.body["wait"] = 0


def _try(room: Room, session: requests.Session, key: str, url: str) -> list[str]:
    """Every operation with generated requests; returns what went wrong, in words."""
    contract = schemathesis.openapi.from_url(f"{url}/openapi.json", timeout=TIMEOUT_S)
    contract.config.update(base_url=url)
    generation = contract.config.generation_for()
    wrong: dict[str, str] = {}
    numbers = itertools.count()
    asked = 0
    good: set[str] = set()

    def ask(case: Case) -> None:
        nonlocal asked
        room.furnish(case, next(numbers))
        asked += 1
        headers = {"Authorization": f"Bearer {key}"}
        try:
            answer = case.call_and_validate(
                base_url=url, session=session, headers=headers, checks=PROMISES, timeout=TIMEOUT_S
            )
            if answer.status_code < 300:
                good.add(case.operation.label)
        except FailureGroup as group:
            for failure in group.exceptions:
                label = f"{case.operation.label}: {type(failure).__name__}"
                wrong.setdefault(label, f"{failure}\n{case.as_curl_command()[:1500]}")
        except requests.exceptions.InvalidHeader:
            pass  # cannot be sent at all

    for result in contract.get_all_operations():
        operation = result.ok()
        both = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
        coverage = contract.iter_coverage_cases(operation, generation_modes=both, generation_config=generation)
        for case in itertools.islice(coverage, COVERAGE_MAX):
            ask(case)
        for mode in both:
            if mode.is_negative and not (operation.body or operation.query or operation.path_parameters):
                continue
            limits = settings(
                max_examples=EXAMPLES_MAX,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            with contextlib.suppress(Unsatisfiable):  # some take any text: nothing said to them is invalid
                limits(given(operation.as_strategy(generation_mode=mode))(ask))()
    labels = {result.ok().label for result in contract.get_all_operations()}
    assert asked > 8 * len(labels), "it hardly asked anything"
    assert len(good) > len(labels) / 2, f"it hardly got anywhere: never a good answer from {sorted(labels - good)}"
    return [f"{label}\n{said}" for label, said in sorted(wrong.items())]


@pytest.mark.timeout(900)
async def test_no_request_is_answered_by_an_error_of_ours_or_by_what_the_contract_does_not_say(world: World) -> None:
    room = Room(world)
    await room.fill()
    key = world.admin.headers["authorization"].split()[1]
    with requests.Session() as session:
        session.trust_env = False
        wrong = await asyncio.to_thread(_try, room, session, key, world.url)
    assert not wrong, f"{len(wrong)} kinds:\n\n" + "\n\n".join(wrong)
    ok(await world.api.get(f"{world.p}/jobs"))
