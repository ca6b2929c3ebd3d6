"""What people and programs send wrongly: each has a stable code and a sentence, and changes nothing (issue 2)."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from api_world import World, assert_problem, fal, ok, small

MB = 1024 * 1024
JSON = {"content-type": "application/json"}


async def test_an_unknown_model_is_refused_by_name(world: World) -> None:
    async with world.unchanged():
        answer = await world.api.post(f"{world.p}/jobs", json={"model": "acme/dream", "input": {"prompt": "a fox"}})
    assert_problem(answer, 422, "unknown_model", "acme/dream")


async def test_inputs_that_a_model_does_not_take_are_named(world: World) -> None:
    wrong = {
        "prompt": {"model": "local/aurora", "input": {}},
        "width": small() | {"input": {"prompt": "a fox", "width": 63}},
        "aspect_ratio": {"model": "local/aurora", "input": {"prompt": "a fox", "aspect_ratio": "7:1"}},
        "seed": {"model": "local/aurora", "input": {"prompt": "a fox", "seed": "red"}},
        "n": small(n=0),
        "deadline_s": small(deadline_s=10**9),
        "priority": small(priority=1000),
        "provider": small(provider="nobody"),
        "start": small(start=str(uuid4())),
        "target": small(target={"shot_id": str(uuid4())}),
        "variables": small(variables={"BRAND": "fox"}),
        "webhook_url": small(webhook_url="https://127.0.0.1/hook"),
        "surprise": small(surprise=True),
    }
    async with world.unchanged():
        for field, body in wrong.items():
            for path in ("jobs", "quote"):
                if path == "quote" and field in ("start", "target"):
                    continue  # references are looked up where they are used
                problem = assert_problem(await world.api.post(f"{world.p}/{path}", json=body), 422, "invalid_input")
                assert any(field in fault["loc"] for fault in problem["errors"]), (field, problem)


async def test_a_template_that_is_not_there_or_not_filled_says_which_and_what(world: World) -> None:
    content = {"name": "Ad", "model": "local/aurora", "input": {"prompt": "{BRAND} on {MODEL}", "width": 64}}
    ok(await world.api.put(f"{world.p}/templates/ad", json=content))
    async with world.unchanged():
        unknown = await world.api.post(f"{world.p}/jobs", json={"template": "nope", "variables": {}})
        assert_problem(unknown, 422, "invalid_input", "nope", "unknown_template")

        missing = await world.api.post(f"{world.p}/jobs", json={"template": "ad", "variables": {"BRAND": "Acme"}})
        problem = assert_problem(missing, 422, "invalid_input")
        assert [fault["loc"] for fault in problem["errors"]] == [["body", "variables", "MODEL"]]

        given = {"BRAND": "Acme", "MODEL": "T", "COLOUR": "red"}
        extra = await world.api.post(f"{world.p}/jobs", json={"template": "ad", "variables": given})
        problem = assert_problem(extra, 422, "invalid_input")
        assert [fault["loc"] for fault in problem["errors"]] == [["body", "variables", "COLOUR"]]

        both = await world.api.post(f"{world.p}/jobs", json={"template": "ad", "model": "local/aurora"})
        assert_problem(both, 422, "invalid_input", "template")


async def test_ids_that_are_none_are_told_apart_from_ids_of_nothing(world: World) -> None:
    nobody = str(uuid4())
    async with world.unchanged():
        for path in ("jobs/{}", "jobs/{}/trace", "jobs/{}/events", "generations/{}", "uploads/{}", "projects/{}/jobs"):
            assert_problem(await world.admin.get("/v1/" + path.format("nothing")), 422, "invalid_input")
            assert_problem(await world.admin.get("/v1/" + path.format(nobody)), 404, "not_found")
        for path in ("jobs/{}/cancel", "jobs/{}/retry", "generations/{}/restore"):
            assert_problem(await world.admin.post("/v1/" + path.format("nothing")), 422, "invalid_input")
            assert_problem(await world.admin.post("/v1/" + path.format(nobody)), 404, "not_found")
        for path in ("shots/{}", "nodes/{}", "edges/{}", "generations/{}"):
            assert_problem(await world.admin.delete("/v1/" + path.format("nothing")), 422, "invalid_input")
            assert_problem(await world.admin.delete("/v1/" + path.format(nobody)), 404, "not_found")
        assert_problem(await world.api.get("/v1/nothing/at/all"), 404, "not_found")


async def test_a_body_over_the_limit_is_refused_whether_it_says_so_or_not(world: World) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * MB

    async with world.unchanged():
        announced = await world.api.post(f"{world.p}/jobs", content=b" " * (17 * MB), headers=JSON)
        assert_problem(announced, 413, "too_large", "uploads")
        chunked = await world.api.post(f"{world.p}/jobs", content=unannounced(), headers=JSON)
        assert "content-length" not in chunked.request.headers
        assert_problem(chunked, 413, "too_large", "uploads")


async def test_a_webhook_over_its_limit_is_refused_before_it_is_read(world: World) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * MB

    path = f"/hooks/fal/{uuid4()}/secret"
    async with world.unchanged():
        for content in (b" " * (3 * MB), unannounced()):
            problem = assert_problem(await world.client().post(path, content=content), 413, "too_large")
            assert "secret" not in json.dumps(problem), "the path's secret is in no answer"


@pytest.mark.parametrize("text", ["\\u0000", "\\ud800"], ids=["NUL", "half a surrogate pair"])
async def test_text_that_cannot_be_stored_is_refused_in_every_field(world: World, text: str) -> None:
    job = '{"model": "local/aurora", "input": {"prompt": "a fox"}, '
    template = '{"slug": "q", "name": "a", "model": "m", "input": {}'
    node = str(uuid4())
    bodies = [
        ("jobs", '{"model": "%s"}'),
        ("jobs", '{"model": "local/aurora", "input": {"prompt": "%s"}}'),
        ("jobs", '{"model": "local/aurora", "input": {"prompt": "a fox", "other": ["%s"]}}'),
        ("jobs", '{"model": "local/aurora", "input": {"prompt": "a fox", "%s": 1}}'),
        ("jobs", job + '"tags": ["%s"]}'),
        ("jobs", job + '"metadata": {"a": ["%s"]}}'),
        ("jobs", job + '"metadata": {"%s": 1}}'),
        ("jobs", job + '"provider": "%s"}'),
        ("jobs", job + '"%s": 1}'),
        ("jobs", '{"template": "%s"}'),
        ("jobs", '{"template": "t", "variables": {"A": "%s"}}'),
        ("jobs", '{"template": "t", "variables": {"%s": 1}}'),
        ("jobs", job + f'"target": {{"shot_id": "{node}", "position": "%s"}}}}'),
        ("shots", '{"name": "%s"}'),
        ("shots", '{"name": "a", "position": "%s"}'),
        ("shots", '{"name": "a", "settings": {"%s": 1}}'),
        ("shots", '{"name": "a", "settings": {"a": "%s"}}'),
        ("nodes", '{"type": "%s"}'),
        ("nodes", '{"type": "a", "data": {"a": {"b": "%s"}}}'),
        ("edges", f'{{"source": "{node}", "target": "{uuid4()}", "data": {{"a": "%s"}}}}'),
        ("templates", '{"slug": "%s", "name": "a", "model": "m", "input": {}}'),
        ("templates", '{"slug": "q", "name": "%s", "model": "m", "input": {}}'),
        ("templates", '{"slug": "q", "name": "a", "model": "%s", "input": {}}'),
        ("templates", '{"slug": "q", "name": "a", "model": "m", "input": {"a": "%s"}}'),
        ("templates", template + ', "start": "%s"}'),
        ("credits/grants", '{"amount": 1, "key": "%s"}'),
        ("credits/grants", '{"amount": 1, "key": "a", "note": "%s"}'),
        ("uploads", '{"bytes": 1, "mime": "%s"}'),
        ("keys", '{"name": "%s"}'),
        ("generations/batch", f'{{"op": "%s", "ids": ["{node}"]}}'),
    ]
    filled = {"name": "T", "model": "local/aurora", "input": {"prompt": "{A}"}}
    ok(await world.api.put(f"{world.p}/templates/t", json=filled))
    async with world.unchanged():
        for path, body in bodies:
            answer = await world.admin.post(f"{world.p}/{path}", content=body.replace("%s", text), headers=JSON)
            assert answer.status_code in (404, 422), (body, answer.text)
            assert answer.json()["code"] in ("invalid_input", "unknown_model", "not_found"), (body, answer.text)
            assert answer.json()["detail"]
        for path, body in [("/v1/projects", '{"name": "%s"}'), ("/v1/admin/flags", '{"%s": true}')]:
            send = world.admin.put if path.endswith("flags") else world.admin.post
            assert_problem(await send(path, content=body.replace("%s", text), headers=JSON), 422, "invalid_input")


async def test_addresses_with_nul_or_broken_utf8_are_answered_like_any_other(world: World) -> None:
    async with world.unchanged():
        for text in ("%00", "%ff", "%ED%A0%80"):
            for path in ("jobs?tag=", "generations?q=", "generations?model=", "generations?fields=", "templates/"):
                answer = await world.api.get(f"{world.p}/{path}{text}")
                assert answer.status_code in (200, 404, 422), (path, answer.text)
            for path in ("jobs", "generations", "shots", "nodes", "edges", "templates", "credits/entries"):
                assert_problem(await world.api.get(f"{world.p}/{path}?cursor={text}"), 422, "invalid_input", "cursor")
            answer = await world.admin.put(f"{world.p}/members/%00", json={"role": "viewer"})
            assert_problem(answer, 422, "invalid_input")


async def test_a_cursor_that_this_list_did_not_give_out_is_refused(world: World) -> None:
    cursors = [
        b"nonsense",
        b'["0001-01-01T00:00:00+14:00","0197a000-0000-7000-8000-000000000001"]',  # a time before all times
        b'["9999-12-31T23:59:59-14:00","0197a000-0000-7000-8000-000000000001"]',
        b'["2026-01-01T00:00:00","0197a000-0000-7000-8000-000000000001"]',
        b"[" * 300,
    ]
    async with world.unchanged():
        for raw in cursors:
            cursor = urlsafe_b64encode(raw).rstrip(b"=").decode()
            for path in ("jobs", "generations", "nodes", "edges"):
                answer = await world.api.get(f"{world.p}/{path}", params={"cursor": cursor})
                assert answer.status_code == 422, (path, raw, answer.text)
                assert_problem(answer, 422, "invalid_input", "cursor")


async def test_numbers_that_json_does_not_have_are_refused_and_not_made_null(world: World) -> None:
    filled = {"name": "T", "model": "local/aurora", "input": {"prompt": "a fox", "seed": "{A}"}}
    ok(await world.api.put(f"{world.p}/templates/t", json=filled))
    job = '{"model": "local/aurora", "input": {"prompt": "a fox"%s}%s}'
    async with world.unchanged():
        for number in ("NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 5000):
            for path, body in [
                ("jobs", job % (f', "seed": {number}', "")),
                ("jobs", job % (f', "other": {{"deep": [{number}]}}', "")),
                ("jobs", job % ("", f', "metadata": {{"a": [{number}]}}')),
                ("jobs", job % ("", f', "deadline_s": {number}')),
                ("jobs", job % ("", f', "priority": {number}')),
                ("jobs", f'{{"template": "t", "variables": {{"A": {number}}}}}'),
                ("nodes", f'{{"type": "a", "x": {number}}}'),
                ("nodes", f'{{"type": "a", "data": {{"a": {number}}}}}'),
                ("shots", f'{{"name": "a", "settings": {{"a": {number}}}}}'),
                ("templates", f'{{"slug": "q", "name": "a", "model": "m", "input": {{"a": {number}}}}}'),
                ("credits/grants", f'{{"amount": {number}, "key": "a"}}'),
                ("uploads", f'{{"bytes": {number}}}'),
            ]:
                answer = await world.admin.post(f"{world.p}/{path}", content=body, headers=JSON)
                assert_problem(answer, 422, "invalid_input")
        for asked in ({"after": "NaN"}, {"after": str(10**30)}, {"wait": "NaN"}, {"wait": "inf"}, {"limit": "1e9"}):
            assert_problem(await world.api.get(f"{world.p}/changes", params=asked), 422, "invalid_input")


async def test_a_huge_whole_number_comes_back_as_it_was_sent(world: World) -> None:
    """JSON has no largest integer, and neither has jsonb: nothing is rounded, nothing breaks."""
    body = small(metadata={"a": 10**30, "b": -(10**30), "c": 2**64})
    job = await world.submit(body)
    assert job["metadata"] == body["metadata"]
    assert (await world.job(job["id"]))["metadata"] == body["metadata"]


async def test_json_that_is_deep_or_large_is_refused_where_it_would_travel_in_every_change(world: World) -> None:
    job = '{"model": "local/aurora", "input": {"prompt": "a fox"}, "metadata": {"a": %s}}'
    async with world.unchanged():
        for depth in (40, 900, 1100, 100_000):
            nest = "[" * depth + "]" * depth
            for path, body in [
                ("jobs", job % nest),
                ("nodes", f'{{"type": "a", "data": {{"a": {nest}}}}}'),
                ("shots", f'{{"name": "a", "settings": {{"a": {nest}}}}}'),
                ("templates", f'{{"slug": "q", "name": "a", "model": "m", "input": {{"a": {nest}}}}}'),
            ]:
                answer = await world.api.post(f"{world.p}/{path}", content=body, headers=JSON)
                assert_problem(answer, 422, "invalid_input")
        large = '"%s"' % ("x" * 70_000)
        assert_problem(await world.api.post(f"{world.p}/jobs", content=job % large, headers=JSON), 422, "invalid_input")


async def test_a_body_that_is_not_json_is_told_what_to_be(world: World) -> None:
    body = json.dumps(small()).encode()
    async with world.unchanged():
        for kind in ("text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            answer = await world.api.post(f"{world.p}/jobs", content=body, headers={"content-type": kind})
            assert_problem(answer, 415, "unsupported_media_type", "application/json")
        for content in (b"", b"{", b"null", b"[]", b'"x"', b"1", b"\xff\xfe{}"):
            answer = await world.api.post(f"{world.p}/jobs", content=content, headers=JSON)
            assert_problem(answer, 422, "invalid_input")


async def test_a_method_that_a_path_does_not_have_is_a_problem_document_too(world: World) -> None:
    for method, path in [
        ("DELETE", f"{world.p}/jobs"),
        ("GET", f"/hooks/fal/{uuid4()}/x"),
        ("POST", "/media/x"),
        ("PATCH", "/v1/session"),
        ("POST", "/healthz"),
    ]:
        answer = await world.api.request(method, path)
        assert_problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"]


async def test_too_few_credits_are_said_with_what_is_needed_and_what_is_there(world: World) -> None:
    poor = await world.new_project(credits=15)
    async with world.unchanged():
        answer = await world.admin.post(f"/v1/projects/{poor}/jobs", json=small(n=2))
    problem = assert_problem(answer, 402, "insufficient_credits")
    assert (problem["required"], problem["available"]) == (20, 15)
    ok(await world.admin.post(f"/v1/projects/{poor}/jobs", json=small(n=1)), 202)
    again = assert_problem(
        await world.admin.post(f"/v1/projects/{poor}/jobs", json=small()), 402, "insufficient_credits"
    )
    assert (again["required"], again["available"]) == (10, 5)


async def test_nothing_is_sent_to_a_provider_that_nobody_can_pay(world: World) -> None:
    poor = await world.new_project(credits=0)
    body = fal()
    answer = await world.admin.post(f"/v1/projects/{poor}/jobs", json=body)
    assert_problem(answer, 402, "insufficient_credits")
    prompts = [each["input"].get("prompt") for each in await world.asked_of_provider()]
    assert body["input"]["prompt"] not in prompts


async def test_results_that_cannot_be_taken_fail_the_job_with_their_code_and_give_the_credits_back(
    world: World,
) -> None:
    expected = {
        "wrong_type": "result_not_media",
        "truncated": "result_truncated",
        "huge": "result_too_large",
        "private_url": "private_address",
        "redirect_private": "private_address",
        "expired": "result_expired",
        "none": "no_output",
    }
    before = await world.wallet()
    jobs = {fault: (await world.submit(fal({"result": fault})))["id"] for fault in expected}
    ended = dict(zip(jobs, await asyncio.gather(*map(world.ends, jobs.values())), strict=True))
    for fault, job in ended.items():
        assert job["status"] == "failed", (fault, job)
        assert job["error"]["code"] == expected[fault], (fault, job["error"])
        assert job["error"]["message"].endswith(".")
        assert isinstance(job["error"]["retryable"], bool)
        assert job["error"]["provider"]["name"] == "fal"
        assert job["credits"]["charged"] is None
        assert job["generations"] == []
    assert await world.wallet() == before
    assert ok(await world.api.get(f"{world.p}/generations"))["items"] == []


async def test_an_idempotency_key_with_another_body_is_a_mismatch(world: World) -> None:
    body = small()
    first = await world.submit(body, idempotency_key="order-1")
    await world.ends(first["id"])
    async with world.unchanged():
        again = await world.submit(body, idempotency_key="order-1")
        assert again["id"] == first["id"]
        other = await world.api.post(f"{world.p}/jobs", json=small(), headers={"idempotency-key": "order-1"})
        assert_problem(other, 409, "idempotency_mismatch")
        for key in ("", "x" * 300):
            answer = await world.api.post(f"{world.p}/jobs", json=body, headers={"idempotency-key": key})
            assert_problem(answer, 422, "invalid_input")


async def test_the_id_of_a_job_in_another_project_is_neither_shown_nor_taken(world: World) -> None:
    other = await world.new_project()
    theirs = ok(await world.admin.post(f"/v1/projects/{other}/jobs", json=small()), 202)["id"]
    await world.ends_in(other, theirs)
    async with world.unchanged():
        taken = await world.api.post(f"{world.p}/jobs", json=small(id=theirs))
        problem = assert_problem(taken, 409, "idempotency_mismatch")
        assert other not in json.dumps(problem)
        for method, path in [
            ("GET", ""),
            ("GET", "/trace"),
            ("GET", "/events"),
            ("POST", "/cancel"),
            ("POST", "/retry"),
        ]:
            assert_problem(await world.api.request(method, f"/v1/jobs/{theirs}{path}"), 404, "not_found")
