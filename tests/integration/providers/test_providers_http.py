"""Submit errors on real sockets: what certainly never left, and what nobody knows (P8, providers.md §7.3)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from safelight.providers.base import AccountProblem, Ambiguous, Refused, Rejected, Transient
from safelight.providers.http import AnswerTooLarge, Api, is_private_host, origin, retry_after_s

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    """A server of raw bytes; its address."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()

    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(guarded(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def api(url: str, read_s: float = 5.0) -> AsyncIterator[Api]:
    made = Api({"authorization": "Key secret"}, base_urls=(url,), read_s=read_s)
    try:
        yield made
    finally:
        await made.close()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


def answering(raw: bytes) -> tuple[Handler, list[bytes]]:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_of(reader))
        writer.write(raw)
        await writer.drain()

    return handler, seen


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# --- never left -------------------------------------------------------------------------------------------------


async def test_a_closed_port_was_not_sent_to():
    url = f"http://127.0.0.1:{free_port()}"
    async with api(url) as made:
        with pytest.raises(Refused) as caught:
            await made.submit("POST", url, body={})
    assert caught.value.failure.code == "provider_unreachable"


async def test_a_name_nobody_has_was_not_sent_to():
    url = "http://no-such-host.invalid"
    async with api(url) as made:
        with pytest.raises(Refused):
            await made.submit("POST", url, body={})


async def test_a_failed_tls_handshake_was_not_sent_to():
    seen: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(65536))
        writer.write(http(400))
        await writer.drain()

    async with listening(plain) as url:
        secure = url.replace("http:", "https:")
        async with api(secure) as made:
            with pytest.raises(Refused):
                await made.submit("POST", secure, body={"prompt": "a red fox"})
    assert len(seen) == 1
    assert b"red fox" not in seen[0]


# --- nobody knows -----------------------------------------------------------------------------------------------


async def test_a_connection_closed_after_the_request_is_ambiguous_and_asked_once():
    handler, seen = answering(b"")
    async with listening(handler) as url, api(url) as made:
        with pytest.raises(Ambiguous):
            await made.submit("POST", url, body={"prompt": "x"})
    assert len(seen) == 1


async def test_a_connection_cut_in_the_middle_of_the_answer_is_ambiguous():
    handler, seen = answering(b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"request_id"')
    async with listening(handler) as url, api(url) as made:
        with pytest.raises(Ambiguous):
            await made.submit("POST", url, body={})
    assert len(seen) == 1


async def test_an_answer_that_never_comes_is_ambiguous():
    taken = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        taken.set()
        await reader.read()

    async with listening(handler) as url, api(url, read_s=0.2) as made:
        with pytest.raises(Ambiguous):
            await made.submit("POST", url, body={})
    assert taken.is_set()


async def test_bytes_that_are_no_http_are_ambiguous():
    handler, _ = answering(b"SSH-2.0-OpenSSH\r\n")
    async with listening(handler) as url, api(url) as made:
        with pytest.raises(Ambiguous):
            await made.submit("POST", url, body={})


async def test_an_answer_without_end_is_ambiguous_for_a_submit_and_too_large_for_a_read():
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with listening(handler) as url, api(url) as made:
        with pytest.raises(Ambiguous):
            await made.submit("POST", url, body={})
        with pytest.raises(AnswerTooLarge):
            await made.read("GET", url)


# --- others -----------------------------------------------------------------------------------------------------


async def test_a_redirect_is_not_followed_with_our_key():
    other, followed = answering(http(200, b"{}"))
    async with listening(other) as elsewhere:
        handler, seen = answering(http(307, location=elsewhere))
        async with listening(handler) as url, api(url) as made:
            with pytest.raises(AccountProblem) as caught:
                await made.submit("POST", url, body={})
            assert (await made.read("GET", url)).status == 307
    assert caught.value.failure.code == "provider_misconfigured"
    assert len(seen) == 2
    assert followed == []


@pytest.mark.parametrize("url", ["ftp://example.invalid/x", "no url"])
async def test_an_address_that_is_none_is_the_operators_mistake(url):
    async with api("http://127.0.0.1") as made:
        with pytest.raises(AccountProblem):
            await made.submit("POST", url, body={})


async def test_a_body_that_cannot_be_written_was_not_sent():
    handler, seen = answering(http(200, b"{}"))
    async with listening(handler) as url, api(url) as made:
        for body in ({"x": float("nan")}, {"x": object()}, {"x": "\ud800"}):
            with pytest.raises(Rejected):
                await made.submit("POST", url, body=body)
    assert seen == []


async def test_a_read_that_fails_may_be_repeated_and_names_no_url():
    url = f"http://127.0.0.1:{free_port()}/secret-token"
    async with api(url) as made:
        with pytest.raises(Transient) as caught:
            await made.read("GET", url)
    assert "secret-token" not in str(caught.value)


async def test_our_key_goes_only_where_it_is_wanted():
    handler, seen = answering(http(200, b"{}"))
    async with listening(handler) as url, api(url) as made:
        await made.read("GET", url)
        await made.read("GET", url, with_key=False)
    assert [b"Key secret" in request for request in seen] == [True, False]


async def test_an_answer_is_kept_short_and_storable():
    body = b'{"detail":"nul \\u0000 half \\ud83d end","n":NaN,"long":"' + b"x" * 10_000 + b'"}'
    handler, _ = answering(http(500, body, retry_after="7"))
    async with listening(handler) as url, api(url) as made:
        answer = await made.read("GET", url)
    assert answer.object["n"] is None
    assert "\x00" not in answer.object["detail"]
    answer.object["detail"].encode()
    assert isinstance(answer.kept_body, str)
    assert len(answer.kept_body) <= 4000
    assert answer.retry_after_s() == 7


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        ("7", 7.0),
        (2.5, 2.5),
        ("-3", 0.0),
        ("999999999", 3600.0),
        ("inf", 3600.0),
        ("nan", None),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 -0000", 30.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        (None, None),
        (True, None),
        ([], None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_endless(said, wait_s):
    assert retry_after_s(said, NOW) == wait_s


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("emulator", True),
        ("a.localhost", True),
        ("gpu.internal", True),
        ("10.1.2.3", True),
        ("::1", True),
        ("queue.fal.run", False),
        ("8.8.8.8", False),
    ],
)
def test_addresses_of_this_network_are_not_reached_through_a_proxy(host, private):
    assert is_private_host(host) is private


def test_an_origin_is_scheme_host_and_port():
    assert origin("https://Queue.fal.run/x") == ("https", "queue.fal.run", 443)
    assert origin("http://h:81") == ("http", "h", 81)
    assert origin("https://h:99999/") is None
    assert origin("//h/") is None
