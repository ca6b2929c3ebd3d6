"""Where a webhook may go: said in words when it may not."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from safelight.outgoing.address import Addresses, AddressRefused


class Names:
    """A resolver whose answers can change, and which counts."""

    def __init__(self, *answers: str, error: Exception | None = None) -> None:
        self.answers: Sequence[str] = answers
        self.error = error
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.answers


async def refused(url: str, names: Names | None = None, *allow: str) -> str:
    with pytest.raises(AddressRefused) as caught:
        await Addresses(frozenset(allow), names or Names("93.184.216.34")).check(url)
    return str(caught.value)


@pytest.mark.parametrize(
    "url, words",
    [
        ("", "https://"),
        ("example.com/hook", "https://"),
        ("ftp://example.com", "https://"),
        ("javascript:alert(1)", "https://"),
        ("https://", "https://"),
        ("https:///path", "https://"),
        ("http://example.com/hook", "use https"),
        ("https://user:word@example.com/hook", "user name"),
        ("https://example.com/hook#part", "fragment"),
        ("https://example.com:0/", "port 0"),
        ("https://exa mple.com", "blank"),
        ("https://example.com/\n", "blank"),
        ("https://example.com:99999/", "port 99999"),
        ("https://[::1", "no URL"),
        ("https://example.com/" + "a" * 2000, "longer"),
    ],
)
async def test_what_is_no_address_to_send_to_is_refused_in_words(url: str, words: str):
    assert words in await refused(url)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "169.254.169.254", "100.64.0.1", "::1", "fd00::1", "0.0.0.0",
                "::ffff:10.0.0.1", "64:ff9b::7f00:1"],
)  # fmt: skip
async def test_a_name_in_a_private_network_is_refused_and_the_setting_is_named(address: str):
    said = await refused("https://hooks.example.com/x", Names(address))
    assert "private network" in said
    assert "SAFELIGHT_ALLOW_HOSTS=hooks.example.com:443" in said


async def test_a_name_that_does_not_exist_is_refused():
    assert "does not exist" in await refused("https://no.example", Names(error=socket.gaierror(socket.EAI_NONAME, "-")))


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "-"), TimeoutError(), OSError("away")])
async def test_a_resolver_that_is_down_refuses_nobody(error: Exception):
    await Addresses(frozenset(), Names(error=error)).check("https://example.com/hook")


async def test_a_host_that_the_operator_named_is_taken_without_a_look_and_with_http():
    names = Names("127.0.0.1")
    addresses = Addresses(frozenset({"127.0.0.1:9000", "[::1]:9000"}), names)
    await addresses.check("http://127.0.0.1:9000/hook")
    await addresses.check("http://[::1]:9000/hook")
    assert names.asked == 0
    assert "use https" in await refused("http://127.0.0.1:9001/hook", None, "127.0.0.1:9000")


async def test_a_good_host_is_asked_about_once_a_minute():
    now = 0.0
    names = Names("93.184.216.34")
    addresses = Addresses(frozenset(), names, clock=lambda: now)
    for path in ("a", "b", "c"):
        await addresses.check(f"https://example.com/{path}")
    assert names.asked == 1
    now = 61.0
    names.answers = ["10.0.0.1"]
    with pytest.raises(AddressRefused):
        await addresses.check("https://example.com/a")
