"""Where the upload of a pull worker's result stands: whole, in parts, and after a broken line (P3)."""

from __future__ import annotations

import random

import pytest

from safelight.sdk.worker_upload import PART_BYTES, PART_BYTES_MIN, SETBACKS_MAX, Course, Setback


def test_what_is_small_is_one_request_and_what_is_large_comes_in_parts():
    assert Course(PART_BYTES).content_range is None
    course = Course(PART_BYTES + 1)
    assert course.content_range == f"bytes 0-{PART_BYTES - 1}/{PART_BYTES + 1}"
    assert course.told(PART_BYTES)
    assert course.content_range == f"bytes {PART_BYTES}-{PART_BYTES}/{PART_BYTES + 1}"
    assert course.told(PART_BYTES + 1)
    assert course.content_range == f"bytes */{PART_BYTES + 1}"


def test_after_a_broken_line_it_asks_first_and_sends_less():
    course = Course(3 * PART_BYTES)
    course.broke()
    assert course.content_range == f"bytes */{3 * PART_BYTES}"
    assert not course.told(0)
    assert course.span == (0, PART_BYTES // 2)
    small = Course(PART_BYTES)
    small.broke()  # one request was too much of it
    assert small.span == (0, PART_BYTES // 2)
    for _ in range(20):
        small.broke()
    assert small.part == PART_BYTES_MIN


def test_a_server_that_keeps_losing_what_was_sent_is_left():
    course = Course(2 * PART_BYTES)
    for _ in range(SETBACKS_MAX):
        course.told(PART_BYTES)
        course.told(0)
    course.told(PART_BYTES)
    with pytest.raises(Setback):
        course.told(0)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_breaks_every_byte_arrives_in_its_place(seed: int):
    """Against a server that takes a part whole or not at all, over a line that loses requests and answers."""
    chance = random.Random(seed)
    total = chance.randrange(1, 5 * PART_BYTES)
    course, has, is_stored = Course(total), 0, False
    for _ in range(10_000):
        is_heard, is_answered = chance.random() > 0.2, chance.random() > 0.2
        begins, ends = (0, total) if course.is_whole else course.span or (None, None)
        if is_heard:
            if begins is not None and begins <= has and ends is not None:
                has = ends if begins == 0 else max(has, ends)
            is_stored = is_stored or has == total
        if not (is_heard and is_answered):
            course.broke()
        elif is_stored:
            return
        else:
            course.told(has)
    pytest.fail("it never ends")
