"""A request and its answer: what is sent, what is read, and which error an answer is."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from safelight.sdk import calls, errors
from safelight.sdk.call import Call, Repeat, read_answer, read_error
from safelight.sdk.resources import JobInfo, Page, Wallet

PROBLEM = {"content-type": "application/problem+json"}
JOB = {
    "id": "0197f6f0-0000-7000-8000-000000000001",
    "project_id": "0197f6f0-0000-7000-8000-00000000000f",
    "status": "pending",
    "stage": "queued",
    "model": "local/aurora",
    "credits": {"quoted": 5, "charged": None},
    "created_at": "2026-01-01T00:00:00Z",
}


def body(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)


def request(**given: Any) -> dict[str, Any]:
    fields: dict[str, Any] = dict.fromkeys(
        (
            "id",
            "target",
            "template",
            "variables",
            "start",
            "provider",
            "priority",
            "deadline_s",
            "metadata",
            "webhook_url",
        )
    )
    return calls.request("local/aurora", {"prompt": "a fox"}, **{**fields, "n": 1, "tags": (), **given})


def test_a_submit_says_only_what_was_given() -> None:
    assert request(id="x") == {"id": "x", "model": "local/aurora", "input": {"prompt": "a fox"}}
    assert request(id="x", n=3, tags=["a"])["n"] == 3


def test_a_submit_without_an_id_is_refused_because_it_could_not_be_repeated() -> None:
    with pytest.raises(AssertionError):
        calls.submit("p", request())


def test_new_ids_are_time_ordered_uuids() -> None:
    first, second = calls.new_id(), calls.new_id()
    assert first.version == 7
    assert first != second
    assert first.int >> 80 <= second.int >> 80


@pytest.mark.parametrize(
    "call",
    [calls.retry_job("j"), calls.create_key("p", "secret", ""), calls.create_project("x")],
)
def test_a_write_that_would_count_twice_is_not_repeated_blindly(call: Call[Any]) -> None:
    assert call.repeat is Repeat.UNSENT


def test_a_list_in_the_query_is_the_parameter_several_times_and_nothing_is_left_out_silently() -> None:
    call = calls.list_jobs("p", status=["pending", "failed"], limit=5)
    assert call.query() == [("status", "pending"), ("status", "failed"), ("limit", "5")]
    assert ("starred", "true") in calls.list_generations("p", starred=True).query()


def test_a_list_answer_knows_the_seq_it_was_read_at() -> None:
    answer = body(items=[JOB], next_cursor="c")
    page = read_answer(calls.list_jobs("p"), 200, {"safelight-seq": "41"}, answer)
    assert isinstance(page, Page)
    assert (page.seq, page.next_cursor, page.items[0].id) == (41, "c", UUID(JOB["id"]))


def test_fields_that_a_newer_server_adds_do_no_harm() -> None:
    assert read_answer(calls.get_job("j"), 200, {}, body(**JOB, colour="red")).stage == "queued"


def test_an_answer_without_a_body_is_none() -> None:
    assert read_answer(calls.delete_generation("g"), 204, {}, b"") is None


@pytest.mark.parametrize("content", [b"<html>hello</html>", b"", b'{"balance": "many"}', b"[]"])
def test_an_answer_of_another_shape_is_told_apart_from_a_failure_of_ours(content: bytes) -> None:
    with pytest.raises(errors.UnexpectedAnswer, match=r"GET /v1/projects/p/credits"):
        read_answer(calls.wallet("p"), 200, {}, content)


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_every_stable_code_has_its_own_error(code: str) -> None:
    error = read_error(400, PROBLEM, body(code=code, detail="because", title="t", status=400))
    assert type(error) is errors.BY_CODE[code]
    assert (error.code, error.detail, str(error)) == (code, "because", "because")


def test_too_few_credits_says_how_many() -> None:
    error = read_error(402, PROBLEM, body(code="insufficient_credits", detail="…", required=500, available=20))
    assert isinstance(error, errors.InsufficientCredits)
    assert (error.required, error.available) == (500, 20)
    assert "credits grant" in error.hint


def test_invalid_input_names_the_fields() -> None:
    faults = [{"loc": ["input", "prompt"], "msg": "missing", "type": "missing"}]
    error = read_error(422, PROBLEM, body(code="invalid_input", detail="…", errors=faults))
    assert isinstance(error, errors.InvalidInput)
    assert error.errors == faults


def test_a_code_that_we_do_not_know_yet_is_kept_and_classed_by_its_status() -> None:
    error = read_error(409, PROBLEM, body(code="node_is_locked", detail="locked"))
    assert isinstance(error, errors.Conflict)
    assert error.code == "node_is_locked"


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (502, b"<html>bad gateway</html>", errors.UnexpectedAnswer),
        (401, b"", errors.Unauthorized),
        (429, b"slow down", errors.RateLimited),
        (307, b"", errors.UnexpectedAnswer),
    ],
)
def test_an_answer_that_is_not_ours_still_becomes_an_error(status: int, content: bytes, kind: type) -> None:
    error = read_error(status, {"content-type": "text/html", "location": "http://elsewhere/"}, content)
    assert type(error) is kind
    assert str(status) in error.detail
    assert error.code in errors.BY_CODE or error.code == "unexpected_answer"


def test_a_proxys_page_is_cut_before_it_is_shown() -> None:
    assert len(read_error(500, {}, b"x" * 10_000_000).detail) < 1000


def test_a_problem_that_is_no_object_is_an_error_all_the_same() -> None:
    assert read_error(404, PROBLEM, b"[1]").status == 404


def test_a_seq_header_that_is_no_number_is_ignored() -> None:
    assert read_answer(calls.list_jobs("p"), 200, {"safelight-seq": "²"}, body(items=[])).seq == 0


def test_a_wallet_has_no_seq_to_set() -> None:
    wallet = read_answer(calls.wallet("p"), 200, {"safelight-seq": "3"}, body(balance=3, held=1, available=2))
    assert wallet == Wallet(balance=3, held=1, available=2)


def test_a_job_is_over_in_its_three_ends_only() -> None:
    job = msgspec.convert(JOB, JobInfo)
    ends = {
        status
        for status in ("pending", "processing", "completed", "failed", "canceled")
        if msgspec.structs.replace(job, status=status).is_over
    }
    assert ends == {"completed", "failed", "canceled"}
