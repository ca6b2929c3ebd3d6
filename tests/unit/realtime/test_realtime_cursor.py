"""The cursor as clients write it."""

from __future__ import annotations

from uuid import UUID

import pytest

from safelight.realtime.sse import BadCursor, Cursor, cursor_of

E = UUID("0197a000-0000-7000-8000-0000000000e0")
OTHER = UUID("0197a000-0000-7000-8000-0000000000e1")


def test_the_last_event_id_wins_over_the_address_the_browser_began_with():
    assert cursor_of({"after": "3", "epoch": str(OTHER)}, f"{E}:17") == Cursor(E, 17)


def test_a_cursor_may_come_by_the_address_with_or_without_an_epoch_or_not_at_all():
    assert cursor_of({"after": "3", "epoch": str(E)}) == Cursor(E, 3)
    assert cursor_of({"after": "0"}) == Cursor(None, 0)
    assert cursor_of({}) == Cursor()
    assert cursor_of({}, "17") == Cursor(None, 17)


@pytest.mark.parametrize(
    "query", [{"after": "x"}, {"after": "-1"}, {"epoch": "1"}, {"after": "9" * 20}, {"after": "1.5"}]
)
def test_a_cursor_that_cannot_be_read_is_refused(query):
    with pytest.raises(BadCursor):
        cursor_of(query)


@pytest.mark.parametrize("last", ["a:b", f"{E}:", f"{E}", "::", ":x", f"{E}:-4"])
def test_a_last_event_id_that_is_not_ours_is_refused(last):
    with pytest.raises(BadCursor):
        cursor_of({}, last)
