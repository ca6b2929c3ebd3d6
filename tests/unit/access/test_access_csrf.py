"""Another site's page, opened in a browser that holds our cookie, changes nothing and opens no socket (O4)."""

from __future__ import annotations

import pytest

from safelight.access.csrf import csrf_ok

OWN = ["https://studio.example", "http://localhost:8000"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post", "WEIRD"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"origin": "https://studio.example"}, True),
        ({"origin": "https://STUDIO.example:443"}, True),
        ({"origin": "http://localhost:8000"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://behind-a-proxy.example"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "https://studio.example"}, True),  # an app's own other origin
        ({}, False),
        ({"origin": ""}, False),
        ({"origin": "null"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "http://studio.example"}, False),
        ({"origin": "https://studio.example:8443"}, False),
        ({"origin": "https://studio.example.evil.example"}, False),
        ({"origin": "https://studio.example@evil.example"}, False),
        ({"origin": "https://evil.example#https://studio.example"}, False),
        ({"origin": "https://studio.example:99999"}, False),
        ({"origin": "https://[::1"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"referer": "https://studio.example/"}, False),
    ],
)
def test_a_write_with_the_cookie_must_come_from_our_own_page(
    method: str, headers: dict[str, str], expected: bool
) -> None:
    assert csrf_ok(method, headers, OWN) is expected


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_is_always_fine(method: str) -> None:
    assert csrf_ok(method, {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, OWN)


def test_a_websocket_is_no_mere_reading() -> None:
    assert not csrf_ok("GET", {"upgrade": "WebSocket", "origin": "https://evil.example"}, OWN)
    assert csrf_ok("GET", {"upgrade": "websocket", "origin": "https://studio.example"}, OWN)
