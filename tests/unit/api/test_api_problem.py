"""Problem documents: one table of codes, and every room's errors in it."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from safelight.access.errors import Forbidden, Unauthorized, Unavailable
from safelight.api import problem
from safelight.changes.log import MustRefetch, NoLog
from safelight.credits.ledger import InsufficientCredits, LedgerError
from safelight.jobs.errors import IdempotencyMismatch, JobConflict, JobNotFound, UnknownModel
from safelight.library.errors import invalid
from safelight.media import errors as media


def test_every_code_has_a_status_and_a_title() -> None:
    assert problem.STATUS.keys() == problem.TITLES.keys()
    assert all(400 <= status < 600 for status in problem.STATUS.values())


def test_the_contracts_codes_keep_their_status() -> None:
    contract = {
        "unauthorized": 401, "forbidden": 403, "not_found": 404, "conflict": 409, "idempotency_mismatch": 409,
        "insufficient_credits": 402, "invalid_input": 422, "unknown_model": 422, "too_large": 413, "rate_limited": 429,
        "must_refetch": 410, "overloaded": 503,
    }  # fmt: skip
    assert contract.items() <= problem.STATUS.items()


def test_every_problem_on_the_way_is_documented_where_its_status_is() -> None:
    described = problem.documented("conflict", "idempotency_mismatch", "not_found")
    assert described.keys() == {404, 409}
    assert described[409]["description"] == "`conflict` or `idempotency_mismatch`"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unauthorized("Who are you?", "missing"), "unauthorized"),
        (Forbidden("No."), "forbidden"),
        (Unavailable("Later.", retry_after_s=3), "overloaded"),
        (InsufficientCredits(20, 5), "insufficient_credits"),
        (MustRefetch(uuid4(), 7, 3), "must_refetch"),
        (NoLog("x"), "not_found"),
        (JobNotFound(), "not_found"),
        (JobConflict("It has ended."), "conflict"),
        (IdempotencyMismatch("Another body."), "idempotency_mismatch"),
        (UnknownModel("acme/dream"), "unknown_model"),
        (invalid("name", "has 1 to 200 characters"), "invalid_input"),
        (LedgerError("conflict", "the key stands for another grant"), "conflict"),
        (LedgerError("something_new", "of the ledger"), "conflict"),
        (media.UploadMissing("There is no such upload."), "not_found"),
        (media.UploadTooLarge("Too many bytes."), "too_large"),
        (media.UploadTooMany("Too many.", retry_after_s=0.5), "rate_limited"),
        (media.UploadInUse("Another request sends it."), "conflict"),
        (media.UploadOffsetMismatch("Go on from 5.", 5), "conflict"),
        (media.UploadNotMedia("No picture."), "invalid_input"),
        (media.StorageUnavailable("The disk is full."), "overloaded"),
        (media.MediaBusy("Later."), "overloaded"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_any_room_becomes_a_whole_document(error: Exception, code: str) -> None:
    answer = problem.of_error("/v1/here", error)
    body = json.loads(bytes(answer.body))
    assert answer.status_code == body["status"] == problem.STATUS[code]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert (body["code"], body["instance"], body["title"]) == (code, "/v1/here", problem.TITLES[code])
    assert body["detail"]
    assert "None" not in json.dumps(body)
    assert problem.Problem.model_validate(body)
    if getattr(error, "retry_after_s", None):
        assert int(answer.headers["retry-after"]) >= 1


def test_extras_stand_beside_the_code() -> None:
    def body(error: Exception) -> dict:
        return json.loads(bytes(problem.of_error("/", error).body))

    assert {"required": 20, "available": 5}.items() <= body(InsufficientCredits(20, 5)).items()
    epoch = uuid4()
    assert {"epoch": str(epoch), "head": 7, "oldest": 3}.items() <= body(MustRefetch(epoch, 7, 3)).items()
    assert body(media.UploadOffsetMismatch("Go on from 5.", 5))["offset"] == 5
    assert body(invalid("name", "is missing"))["errors"][0]["loc"] == ["body", "name"]


def test_what_is_no_error_for_people_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        problem.of_error("/", ZeroDivisionError())
