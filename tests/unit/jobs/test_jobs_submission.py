"""A submit, made complete without a database (J2, J8, C3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from safelight.jobs.errors import InvalidSubmission, UnknownModel
from safelight.jobs.policy import JobPolicy
from safelight.jobs.submission import PLACEHOLDER_START, Complete, Submission, complete, fingerprint
from safelight.providers.registry import Registry

REGISTRY = Registry.load(None)
EVERYBODY = frozenset({"local", "fal", "kie"})
FOX = Submission(model="local/aurora", input={"prompt": "a red fox"})


def completed(submission: Submission, enabled: frozenset[str] = EVERYBODY, **given: Any) -> Complete:
    return complete(submission, REGISTRY, enabled, JobPolicy(), **({"allow_emulator": False} | given))


def refused(submission: Submission, **given: Any) -> list[Any]:
    with pytest.raises(InvalidSubmission) as caught:
        completed(submission, **given)
    assert caught.value.code == "invalid_input"
    assert all({"loc", "msg", "type"} == set(error) for error in caught.value.extras["errors"])
    return [error["loc"] for error in caught.value.extras["errors"]]


def test_defaults_are_filled_in_and_the_price_is_known():
    whole = completed(FOX)
    assert (whole.provider, whole.endpoint) == ("local", "aurora")
    assert whole.input["aspect_ratio"] == "1:1"
    assert whole.quoted == 10
    assert completed(replace(FOX, n=4)).quoted == 40
    assert whole.deadline == timedelta(hours=1)


def test_what_is_wrong_is_named_with_its_place():
    assert refused(Submission(input={"prompt": "a"})) == [["body", "model"]]
    assert refused(replace(FOX, input={})) == [["body", "input", "prompt"]]
    assert refused(replace(FOX, n=0)) == [["body", "n"]]
    assert refused(replace(FOX, deadline_s=0.5)) == [["body", "deadline_s"]]
    assert refused(replace(FOX, deadline_s=1e12)) == [["body", "deadline_s"]]
    assert refused(replace(FOX, provider="kie")) == [["body", "provider"]]
    assert refused(replace(FOX, start=uuid4())) == [["body", "start"]]


def test_an_unknown_model_has_a_code_of_its_own():
    with pytest.raises(UnknownModel) as caught:
        completed(replace(FOX, model="nobody/knows"))
    assert caught.value.code == "unknown_model"


def test_a_provider_without_a_key_is_said_before_a_job_exists():
    assert refused(Submission(model="google/nano-banana", input={"prompt": "a"}), enabled=frozenset({"local"})) == [
        ["body", "model"]
    ]


def test_emulator_faults_pass_only_where_the_operator_lets_them():
    steered = replace(FOX, input={"prompt": "a", "_emulator": {"latency_s": 1}})
    assert refused(steered) == [["body", "input", "_emulator"]]
    assert completed(steered, allow_emulator=True).input["_emulator"] == {"latency_s": 1}


@pytest.mark.parametrize(
    ("model", "field", "kept"),
    [
        ("google/nano-banana-edit", "image_urls", None),
        ("google/nano-banana-edit", "image_urls", ["https://a.example/b.png"]),
        ("fal-ai/flux/dev/image-to-image", "image_url", None),
    ],
)
def test_a_start_image_is_checked_but_its_address_is_not_kept(model: str, field: str, kept: list[str] | None):
    given: dict[str, Any] = {"prompt": "make it blue"} | ({field: kept} if kept else {})
    whole = completed(Submission(model=model, input=given, start=uuid4()))
    assert PLACEHOLDER_START not in str(whole.input)
    assert whole.input.get(field) == kept


def test_the_hash_is_of_the_request_and_the_project():
    project = uuid4()
    assert fingerprint(project, FOX) == fingerprint(project, replace(FOX))
    others = [
        replace(FOX, n=2),
        replace(FOX, tags=("x",)),
        replace(FOX, input={"prompt": "a blue fox"}),
        replace(FOX, metadata={"a": 1}),
        replace(FOX, priority=1),
    ]
    hashes = [fingerprint(project, each) for each in others] + [fingerprint(uuid4(), FOX), fingerprint(project, FOX)]
    assert len(set(hashes)) == len(hashes)


def test_the_hash_does_not_depend_on_the_order_of_names():
    project = uuid4()
    one = replace(FOX, input={"prompt": "a", "seed": 1})
    other = replace(FOX, input={"seed": 1, "prompt": "a"})
    assert fingerprint(project, one) == fingerprint(project, other)
