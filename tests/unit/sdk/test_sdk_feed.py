"""Following the change log: each entry once and in order, whatever streams and polls do."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.sdk import Cursor, MustRefetch, UnexpectedAnswer
from safelight.sdk.feed import STREAM_FAILURES_MAX, WAIT_S, Feed
from safelight.sdk.resources import Change, ChangePage

EPOCH = "5d0a1a6e-8a52-4d57-9a55-0d9a5f0f8a11"
OTHER = "00000000-0000-4000-8000-000000000000"


def entry(seq: int) -> Change:
    return Change(seq=seq, at=datetime(2026, 1, 1, tzinfo=UTC), table="jobs", op="update", id=str(seq))


def page(first: int, last: int, head: int | None = None, epoch: str = EPOCH) -> ChangePage:
    return ChangePage(
        epoch=epoch, head=last if head is None else head, changes=[entry(n) for n in range(first, last + 1)]
    )


def heard(feed: Feed, seq: int, epoch: str = EPOCH) -> list[int]:
    return seqs(feed.heard("change", msgspec.json.encode(entry(seq)).decode(), f"{epoch}:{seq}"))


def beat(feed: Feed, head: int, epoch: str = EPOCH) -> None:
    assert feed.heard("head", msgspec.json.encode({"epoch": epoch, "head": head}).decode(), "") == []


def seqs(changes: list[Change]) -> list[int]:
    return [change.seq for change in changes]


def test_a_cursor_can_be_written_down_and_read_again() -> None:
    cursor = Cursor(EPOCH, 17)
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize("text", ["", "17", ":17", f"{EPOCH}:", f"{EPOCH}:-1", f"{EPOCH}:²", "a:b"])
def test_a_cursor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.parse(text)


def test_an_entry_says_where_to_go_on_after_it() -> None:
    feed = Feed(Cursor(EPOCH, 0))
    [pulled] = feed.pulled(page(1, 1))
    assert pulled.cursor == f"{EPOCH}:1"
    [pushed] = feed.heard("change", msgspec.json.encode(entry(2)).decode(), f"{EPOCH}:2")
    assert pushed.cursor == f"{EPOCH}:2"


def test_a_stream_is_joined_only_after_we_are_up_to_date() -> None:
    feed = Feed(Cursor(EPOCH, 0))
    assert feed.must_pull
    assert seqs(feed.pulled(page(1, 500, head=700))) == list(range(1, 501))
    assert not feed.wants_stream
    assert seqs(feed.pulled(page(501, 700))) == list(range(501, 701))
    assert feed.wants_stream


def test_an_entry_that_was_missed_is_fetched_and_not_skipped() -> None:
    feed = Feed(Cursor(EPOCH, 3))
    feed.pulled(page(1, 0, head=3))
    assert heard(feed, 5) == []
    assert feed.must_pull
    assert seqs(feed.pulled(page(4, 5))) == [4, 5]


def test_an_entry_that_comes_twice_is_given_once() -> None:
    feed = Feed(Cursor(EPOCH, 3))
    feed.pulled(page(1, 0, head=3))
    assert heard(feed, 4) == [4]
    assert heard(feed, 4) == []
    assert not feed.must_pull


def test_a_beat_that_names_a_later_head_makes_us_pull() -> None:
    feed = Feed(Cursor(EPOCH, 3))
    feed.pulled(page(1, 0, head=3))
    beat(feed, 3)
    assert not feed.must_pull
    beat(feed, 4)
    assert feed.must_pull


@pytest.mark.parametrize("name", ["must_refetch", "gone"])
def test_a_stream_that_cannot_go_on_makes_us_ask_why(name: str) -> None:
    feed = Feed(Cursor(EPOCH, 3))
    feed.pulled(page(1, 0, head=3))
    assert feed.heard(name, "{}", "") == []
    assert feed.must_pull


def test_a_log_of_another_life_is_not_taken_for_ours() -> None:
    feed = Feed(Cursor(EPOCH, 3))
    with pytest.raises(MustRefetch) as caught:
        feed.pulled(page(4, 5, epoch=OTHER))
    assert (caught.value.epoch, caught.value.head) == (OTHER, 5)
    assert heard(feed, 4, epoch=OTHER) == []
    assert feed.must_pull


def test_a_page_with_a_hole_is_never_taken() -> None:
    feed = Feed(Cursor(EPOCH, 0))
    with pytest.raises(UnexpectedAnswer, match="jumps from 0 to 2"):
        feed.pulled(page(2, 3))


def test_an_event_that_cannot_be_read_makes_us_pull() -> None:
    feed = Feed(Cursor(EPOCH, 3))
    feed.pulled(page(1, 0, head=3))
    assert feed.heard("change", "{", f"{EPOCH}:4") == []
    assert feed.must_pull


def test_streams_that_always_fail_are_left_for_long_polls_and_tried_again_now_and_then() -> None:
    feed = Feed(Cursor(EPOCH, 0))
    tried = 0
    for _ in range(40):
        feed.pulled(page(1, 0, head=0))
        if feed.wants_stream:
            tried += 1
            feed.lost()
        assert feed.pause_s(0.999) <= 1.0
    assert STREAM_FAILURES_MAX < tried < 15
    assert feed.wait_s == WAIT_S


def test_a_page_that_promises_more_and_gives_nothing_does_not_make_us_spin() -> None:
    feed = Feed(Cursor(EPOCH, 3))
    assert feed.pulled(page(1, 0, head=9)) == []
    assert not feed.must_pull


@given(
    head=st.integers(0, 30),
    news=st.lists(st.one_of(st.integers(1, 40), st.sampled_from(["pull", "beat", "break"])), max_size=60),
)
def test_whatever_happens_every_entry_is_given_exactly_once_and_in_order(head: int, news: list[int | str]) -> None:
    """`news` is an adversary: entries early, late, doubled or lost, beats, breaks; a pull always tells the truth."""
    feed = Feed(Cursor(EPOCH, 0))
    given_out: list[int] = []
    for each in [*news, "pull"]:
        if each == "pull" or feed.must_pull:
            given_out += seqs(feed.pulled(page(feed.cursor.seq + 1, head)))
        if each == "beat":
            beat(feed, head)
        elif each == "break":
            feed.lost()
        elif isinstance(each, int):
            head = max(head, each)  # an entry that is told exists
            given_out += heard(feed, each)
    given_out += seqs(feed.pulled(page(feed.cursor.seq + 1, head)))
    assert given_out == list(range(1, head + 1))
