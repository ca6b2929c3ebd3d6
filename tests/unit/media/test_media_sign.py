"""Media URLs are private, expire, and stay the same for a day (M3)."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from safelight.media.sign import MediaSigner

SIGNER = MediaSigner(b"0123456789abcdef")
moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
keys = st.from_regex(r"[A-Za-z0-9_-]{1,20}(/[A-Za-z0-9._-]{1,20}){0,3}", fullmatch=True)


def parts(url: str) -> tuple[str, str, str]:
    split = urlsplit(url)
    query = parse_qs(split.query)
    return split.path.removeprefix("/media/"), query["e"][0], query["s"][0]


@given(keys, moments)
def test_a_signed_url_opens_its_file_for_at_least_a_day_and_less_than_two(key, now):
    path, e, s = parts(SIGNER.sign(key, now))
    assert path == key
    assert SIGNER.verify(key, e, s, now)
    assert SIGNER.verify(key, e, s, now + timedelta(hours=24) - timedelta(seconds=1))
    assert not SIGNER.verify(key, e, s, now + timedelta(hours=48, seconds=1))
    assert not SIGNER.verify(key, e, s, datetime.fromtimestamp(int(e), UTC))


@given(keys, moments, st.integers(0, 86_399))
def test_the_url_of_a_file_is_the_same_all_day(key, now, later_s):
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    assert SIGNER.sign(key, midnight) == SIGNER.sign(key, midnight + timedelta(seconds=later_s))


@given(keys, keys, moments, st.integers(1, 10**9))
def test_a_signature_opens_no_other_file_and_no_other_time(key, other, now, shift):
    assume(key != other)
    _, e, s = parts(SIGNER.sign(key, now))
    assert not SIGNER.verify(other, e, s, now)
    assert not SIGNER.verify(key, str(int(e) + shift), s, now)
    assert not MediaSigner(b"another secret of ours").verify(key, e, s, now)


@given(st.text(max_size=40), st.text(max_size=40), moments)
def test_garbage_is_refused_and_never_raises(e, s, now):
    assert not SIGNER.verify("p/x.png", e, s, now)


def test_other_spellings_of_the_same_moment_are_refused():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    key, e, s = parts(SIGNER.sign("p/x.png", now))
    for spelt in (f"0{e}", f"+{e}", f" {e}", f"{e}.0", "٣" * 10, ""):
        assert not SIGNER.verify(key, spelt, s, now)


def test_a_changed_secret_still_opens_what_the_previous_one_signed():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    key, e, s = parts(SIGNER.sign("p/x.png", now))
    renewed = MediaSigner(b"fedcba9876543210", previous=[b"0123456789abcdef"])
    assert renewed.verify(key, e, s, now)
    assert not SIGNER.verify(*parts(renewed.sign("p/x.png", now)), now)


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="16 bytes"):
        MediaSigner(b"short")
