"""fal's error catalogue (providers.md §1.8) → our failure codes."""

from __future__ import annotations

import json

import pytest

from safelight.emulators.fal_errors import MODEL_ERRORS, PLATFORM_ERRORS, fal_error
from safelight.emulators.task import Broken
from safelight.providers.failures import CODES
from safelight.providers.fal_errors import read_error, to_failure
from safelight.providers.http import Answer


def answer(status: int, body: object, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, body, json.dumps(body))


def model_error(kind: str, status: int, **headers: str) -> Answer:
    entry = {
        "loc": ["body", "prompt"],
        "msg": "Said so",
        "type": kind,
        "url": "https://docs.fal.ai/errors",
        "input": {},
    }
    return answer(status, {"detail": [entry]}, **headers)


def platform_error(kind: str, status: int, **headers: str) -> Answer:
    return answer(status, {"detail": "Said so", "error_type": kind}, x_fal_error_type=kind, **headers)


@pytest.mark.parametrize(
    ("kind", "status", "code", "transient"),
    [
        ("internal_server_error", 500, "provider_failed", True),
        ("generation_timeout", 504, "provider_timeout", True),
        ("downstream_service_error", 400, "provider_failed", True),
        ("downstream_service_error", 500, "provider_failed", True),
        ("downstream_service_unavailable", 500, "provider_failed", True),
        ("content_policy_violation", 422, "content_policy", False),
        ("no_media_generated", 422, "no_output", False),
        ("image_too_small", 422, "invalid_input", False),
        ("image_too_large", 422, "invalid_input", False),
        ("image_load_error", 422, "input_unreachable", False),
        ("file_download_error", 422, "input_unreachable", False),
        ("face_detection_error", 422, "invalid_input", False),
        ("file_too_large", 422, "invalid_input", False),
        ("greater_than_equal", 422, "invalid_input", False),
        ("one_of", 422, "invalid_input", False),
        ("missing", 422, "invalid_input", False),
        ("feature_not_supported", 422, "invalid_input", False),
        ("unsupported_video_format", 422, "invalid_input", False),
        ("invalid_archive", 422, "invalid_input", False),
        ("a_type_from_next_year", 422, "invalid_input", False),
        ("a_type_from_next_year", 500, "provider_failed", True),
        ("a_type_from_next_year", 418, "provider_refused", False),
    ],
)
def test_a_models_error_gets_our_code(kind, status, code, transient):
    failed = to_failure(model_error(kind, status))
    assert (failed.code, failed.transient, failed.status) == (code, transient, status)
    assert failed.message.endswith("prompt: Said so")
    assert failed.body["detail"][0]["type"] == kind


@pytest.mark.parametrize(
    ("kind", "status", "code", "transient"),
    [
        ("request_timeout", 504, "provider_timeout", True),
        ("startup_timeout", 504, "provider_timeout", True),
        ("runner_scheduling_failure", 503, "provider_failed", True),
        ("runner_connection_timeout", 503, "provider_failed", True),
        ("runner_disconnected", 503, "provider_failed", True),
        ("runner_connection_refused", 503, "provider_failed", True),
        ("runner_connection_error", 503, "provider_failed", True),
        ("runner_incomplete_response", 502, "provider_failed", True),
        ("runner_server_error", 500, "provider_failed", True),
        ("internal_error", 500, "provider_failed", True),
        ("client_disconnected", 499, "canceled", False),
        ("client_cancelled", 499, "canceled", False),
        ("bad_request", 400, "invalid_input", False),
    ],
)
def test_a_platform_error_gets_our_code(kind, status, code, transient):
    failed = to_failure(platform_error(kind, status))
    assert (failed.code, failed.transient) == (code, transient)


@pytest.mark.parametrize("kind", [*MODEL_ERRORS, *PLATFORM_ERRORS])
def test_every_error_of_the_emulators_catalogue_has_a_sentence(kind):
    said = fal_error(Broken(kind))
    headers = {name.lower(): value for name, value in said.headers.items()}
    failed = to_failure(Answer(said.status, headers, said.body, json.dumps(said.body)))
    assert failed.code in CODES
    assert failed.message.startswith(CODES[failed.code].sentence[:-1])


@pytest.mark.parametrize("header", ["x_fal_needs_retry", "x_fal_retryable"])
def test_fals_own_hint_about_retrying_wins(header):
    assert to_failure(model_error("no_media_generated", 422, **{header: "1"})).transient
    assert not to_failure(model_error("internal_server_error", 500, **{header: "0"})).transient
    assert not to_failure(model_error("internal_server_error", 500, **{header: "false"})).transient


def test_refused_content_is_never_bought_again_by_itself():
    assert not to_failure(model_error("content_policy_violation", 422, x_fal_needs_retry="1")).transient


def test_our_own_deadline_would_be_met_again():
    assert not to_failure(platform_error("request_timeout", 504, x_fal_request_timeout_type="user")).transient


@pytest.mark.parametrize("body", [None, [], "text", 5, {"detail": []}, {"detail": [5]}, {"detail": {"a": 1}}, {}])
def test_a_body_of_any_shape_is_read(body):
    failed = to_failure(answer(500, body))
    assert failed.code == "provider_failed"
    assert failed.transient


def test_old_apps_answer_with_a_plain_text():
    error = read_error(answer(422, {"detail": "Prompt is bad"}))
    assert (error.type, error.text, error.from_model) == (None, "Prompt is bad", False)


def test_a_long_answer_is_cut():
    failed = to_failure(answer(500, {"detail": "x" * 100_000}))
    assert len(failed.message) < 500
    long = Answer(500, {}, {"detail": "x" * 100_000}, "x" * 4000)
    assert to_failure(long).body == "x" * 4000
