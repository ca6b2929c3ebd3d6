"""The Range header (M3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.media.byterange import Part, Unsatisfiable, parse_range


@pytest.mark.parametrize(
    "header,expected",
    [
        (None, None),
        ("", None),
        ("bytes=0-", Part(0, 100)),
        ("bytes=0-0", Part(0, 1)),
        ("bytes=10-19", Part(10, 20)),
        ("bytes=90-500", Part(90, 100)),
        ("bytes=-10", Part(90, 100)),
        ("bytes=-500", Part(0, 100)),
        (" Bytes = 5 - 6 ", Part(5, 7)),
        ("bytes=100-", Unsatisfiable()),
        ("bytes=100-200", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        ("bytes=20-10", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("bytes=٣-٤", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_a_range_header_means_what_rfc_9110_says(header, expected):
    assert parse_range(header, 100) == expected


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_part_always_lies_within_the_file(first, last, size):
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        found = parse_range(header, size)
        if isinstance(found, Part):
            assert 0 <= found.start < found.end <= size


@given(st.text(max_size=60), st.integers(0, 1000))
def test_any_header_is_survived(header, size):
    parse_range(header, size)
    parse_range("bytes=" + header, size)


def test_an_empty_file_has_no_satisfiable_range():
    assert parse_range("bytes=0-", 0) == Unsatisfiable()
    assert parse_range("bytes=-5", 0) == Unsatisfiable()
