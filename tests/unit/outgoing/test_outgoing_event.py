"""The body of a webhook: the job as the API shows it, and no files inside."""

from __future__ import annotations

import json
from typing import Any

from safelight.outgoing import event

AT = "2026-11-21T12:00:00Z"


def told(given: dict[str, Any], generations: list[dict[str, Any]] | None = None) -> Any:
    return json.loads(event.body("job.completed", AT, {"id": "j", "input": given}, generations or []))


def test_it_says_what_happened_when_and_to_which_job():
    body = told({"prompt": "a red fox"}, [{"id": "g"}])
    assert body == {
        "type": "job.completed",
        "timestamp": AT,
        "data": {"job": {"id": "j", "input": {"prompt": "a red fox"}}, "generations": [{"id": "g"}]},
    }


def test_a_start_image_inside_the_input_is_named_and_not_sent():
    picture = "data:image/png;base64," + "A" * 10_000
    body = told({"prompt": "a fox", "image": picture, "more": [{"url": picture}]})
    said = body["data"]["job"]["input"]
    assert said["prompt"] == "a fox"
    assert said["image"].startswith("data:image/png;base64,")
    assert said["image"].endswith("… (10,022 characters)")
    assert len(said["more"][0]["url"]) < 200
    assert body["data"]["left_out"] == ["job.input"]


def test_an_input_that_was_cut_before_is_said_to_be_not_whole():
    job = {"id": "j", "input": {"prompt": "a fox", "image": "data:… (2,000,000 characters)"}, "left_out": ["input"]}
    body = json.loads(event.body("job.completed", AT, job, []))
    assert body["data"]["job"] == job
    assert body["data"]["left_out"] == ["job.input"]


def test_a_long_prompt_is_sent_whole():
    body = told({"prompt": "fox " * 5_000})
    assert body["data"]["job"]["input"]["prompt"] == "fox " * 5_000
    assert "left_out" not in body["data"]


def test_an_input_too_large_for_any_receiver_is_left_out():
    body = told({"prompt": "fox " * 100_000})
    assert body["data"]["job"]["input"] == {}
    assert body["data"]["left_out"] == ["job.input"]


def test_a_test_names_no_job():
    body = json.loads(event.body(event.TEST, AT, None, []))
    assert body["type"] == "webhook.test"
    assert set(body["data"]) == {"message"}
