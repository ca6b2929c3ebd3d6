"""The guarded door against a host that misbehaves in every way, over real sockets (M1, M4)."""

import asyncio
import base64
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from safelight.media import synth
from safelight.media.errors import (
    NotMedia,
    PrivateAddress,
    ResultExpired,
    ResultTooLarge,
    ResultTruncated,
    ResultUnreachable,
    StorageUnavailable,
    WrongType,
)
from safelight.media.fetch import Fetcher, FetchLimits, SizeLimits, take_bytes, take_data_uri, take_file

PNG = synth.picture("a red fox", 1, 200, 150)
MP4 = synth.clip("the sea", 1, 64, 48, 0.5)
HTML = b"<!doctype html><html>No such bucket</html>" + b" " * 5000
IMAGES = frozenset({"image"})

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, mime: str | None = "image/png", status: str = "200 OK", *extra: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *extra]
    if mime:
        lines.append(f"Content-Type: {mime}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Host:
    """A raw HTTP host on loopback: whatever a handler writes is what the client gets."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0

    def serves(self, path: str, raw: bytes) -> str:
        async def handler(_: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(raw)

        return self.on(path, handler)

    def on(self, path: str, handler: Handler) -> str:
        self.handlers[path] = handler
        return f"http://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                path = head.split(b" ", 2)[1].decode().split("?")[0]
                await self.handlers[path](head, writer)
                await writer.drain()
                if writer.is_closing():
                    break
        writer.close()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@contextlib.asynccontextmanager
async def fetching(*allowed: str, resolver=None, **limits) -> AsyncIterator[Fetcher]:
    extra = {"resolver": resolver} if resolver else {}
    fetcher = Fetcher(frozenset(allowed), FetchLimits(**limits), **extra)
    try:
        yield fetcher
    finally:
        await fetcher.close()


@contextlib.asynccontextmanager
async def door(host: Host, **limits) -> AsyncIterator[Fetcher]:
    async with fetching(f"127.0.0.1:{host.port}", **limits) as fetcher:
        yield fetcher


async def test_a_result_arrives_whole_with_its_hash_and_true_type(host, tmp_path):
    url = host.serves("/fox.png", answer(PNG, "image/jpeg"))
    async with door(host) as fetcher:
        got = await fetcher.fetch(url + "?sig=a%2Fb", kinds=IMAGES, dest=tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == PNG
    assert (got.bytes, got.sha256) == (len(PNG), hashlib.sha256(PNG).digest())
    assert (got.mime, got.declared_mime) == ("image/png", "image/jpeg")
    assert b"GET /fox.png?sig=a%2Fb HTTP/1.1" in host.requests[0]


async def test_nothing_of_ours_is_sent_along_and_the_environments_proxy_is_not_used(host, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    host.serves("/x", answer(PNG))
    async with door(host) as fetcher:
        await fetcher.fetch(f"http://user:secret@127.0.0.1:{host.port}/x", kinds=None, dest=tmp_path / "x")
    names = {line.split(b":")[0].lower() for line in host.requests[0].split(b"\r\n")[1:] if line}
    assert names == {b"host", b"accept", b"accept-encoding", b"user-agent"}
    assert b"secret" not in host.requests[0]


async def test_connections_are_kept_for_the_next_result(host, tmp_path):
    url = host.serves("/x", answer(PNG))
    async with door(host) as fetcher:
        for _ in range(3):
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")
    assert host.connections == 1


async def test_a_large_result_is_streamed_in_bounded_memory(host, tmp_path):
    size, block = 64 * 1024 * 1024, os.urandom(1024 * 1024)

    async def large(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in [MP4, *[block] * (size // len(block))]:
            writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    import tracemalloc

    url = host.on("/large", large)
    async with door(host) as fetcher:
        tracemalloc.start()
        got = await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert got.bytes == size + len(MP4)
    assert peak < 8 * 1024 * 1024


# --- private addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/x",
        "http://localhost:{port}/x",
        "http://127.1:{port}/x",
        "http://2130706433:{port}/x",
        "http://0x7f000001:{port}/x",
        "http://[::ffff:127.0.0.1]:{port}/x",
        "http://[::1]:{port}/x",
        "http://0.0.0.0:{port}/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.100.100.200/",
        "https://10.0.0.1/x",
        "http://user@127.0.0.1:{port}/x",
    ],
)
async def test_a_private_address_is_refused_however_it_is_spelt(host, tmp_path, url):
    host.serves("/x", answer(PNG))
    async with fetching() as fetcher:
        with pytest.raises(PrivateAddress) as caught:
            await fetcher.fetch(url.format(port=host.port), kinds=None, dest=tmp_path / "x")
    assert not caught.value.retryable
    assert host.connections == 0
    assert not (tmp_path / "x").exists()


async def test_a_name_that_resolves_to_a_private_address_is_refused(host, tmp_path):
    async def resolver(name: str, port: int) -> list[str]:
        assert name == "cdn.example.com"
        return ["127.0.0.1", "::1", "169.254.169.254"]

    async with fetching(resolver=resolver) as fetcher:
        with pytest.raises(PrivateAddress, match="private network"):
            await fetcher.fetch(f"http://cdn.example.com:{host.port}/x", kinds=None, dest=tmp_path / "x")
    assert host.connections == 0


async def test_an_allowance_is_for_one_host_and_port(host, tmp_path):
    url = host.serves("/x", answer(PNG))
    async with fetching(f"127.0.0.1:{host.port + 1}", f"localhost:{host.port}") as fetcher:
        with pytest.raises(PrivateAddress):
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")
        await fetcher.fetch(url.replace("127.0.0.1", "LOCALHOST"), kinds=None, dest=tmp_path / "x")


@pytest.mark.parametrize(
    "url", ["ftp://example.com/x", "file:///etc/passwd", "gopher://x", "//x/y", "", "http://", "x" * 20_000]
)
async def test_other_schemes_and_nonsense_are_refused(tmp_path, url):
    async with fetching() as fetcher:
        with pytest.raises(ResultUnreachable) as caught:
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")
    assert not caught.value.retryable


# --- redirects ------------------------------------------------------------------------------------------------


async def test_redirects_are_followed_also_relative_ones(host, tmp_path):
    host.serves("/deep/b", answer(b"", None, "307 Temporary Redirect", "Location: ../c?d=1"))
    host.serves("/c", answer(PNG))
    url = host.serves("/a", answer(b"moved", None, "302 Found", "Location: /deep/b"))
    async with door(host) as fetcher:
        got = await fetcher.fetch(url, kinds=IMAGES, dest=tmp_path / "x")
    assert got.bytes == len(PNG)
    assert b"GET /c?d=1" in host.requests[-1]


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:1/x", "http://169.254.169.254/latest/", "http://[::1]:1/", "//10.0.0.1/"]
)
async def test_a_redirect_to_a_private_address_is_refused(host, tmp_path, target):
    url = host.serves("/a", answer(b"", None, "302 Found", f"Location: {target}"))
    async with door(host) as fetcher:
        with pytest.raises(PrivateAddress):
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")


async def test_a_public_host_cannot_redirect_to_an_allowed_private_one(host, tmp_path):
    """The allowance for emulators is not a hole for others. The public host is real: only its name is ours."""
    target = host.serves("/inside", answer(PNG))
    url = host.serves("/a", answer(b"", None, "302 Found", f"Location: {target}"))

    async with fetching(f"127.0.0.1:{host.port}") as fetcher:
        outside = Fetcher(frozenset({f"127.0.0.1:{host.port}"}))
        outside._is_allowed = lambda at: at.path == "/inside"  # the first hop stands for a public host
        with pytest.raises(PrivateAddress, match="redirected"):
            await outside.fetch(url, kinds=None, dest=tmp_path / "x")
        await outside.close()
        assert (await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")).bytes == len(PNG)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/y", "http://"])
async def test_a_redirect_to_another_scheme_is_refused(host, tmp_path, location):
    url = host.serves("/a", answer(b"", None, "301 Moved", f"Location: {location}"))
    async with door(host) as fetcher:
        with pytest.raises(ResultUnreachable):
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")


@pytest.mark.parametrize(
    "location", ["http://[::1", "http://x:abc/", "http://x:99999/", "http://é..é/", "//" + "a" * 20_000]
)
async def test_a_redirect_to_nonsense_is_unreachable_and_not_a_fault_of_ours(host, tmp_path, location):
    url = host.serves("/a", answer(b"", None, "302 Found", f"Location: {location}"))
    async with door(host) as fetcher:
        with pytest.raises(ResultUnreachable) as refused:
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")
    assert not refused.value.retryable


async def test_a_ring_of_redirects_ends(host, tmp_path):
    url = host.serves("/a", answer(b"", None, "302 Found", "Location: /a"))
    async with door(host) as fetcher:
        with pytest.raises(ResultUnreachable, match="more than 5"):
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")
    assert len(host.requests) == 6


# --- bodies ---------------------------------------------------------------------------------------------------


async def test_an_error_page_declared_as_a_picture_is_not_media(host, tmp_path):
    url = host.serves("/a", answer(HTML, "image/png"))
    async with door(host) as fetcher:
        with pytest.raises(NotMedia, match="HTML page"):
            await fetcher.fetch(url, kinds=IMAGES, dest=tmp_path / "x")
    assert not (tmp_path / "x").exists()


async def test_a_picture_declared_as_a_video_is_refused(host, tmp_path):
    url = host.serves("/a", answer(PNG, "video/mp4"))
    async with door(host) as fetcher:
        with pytest.raises(WrongType):
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")


async def test_a_picture_where_a_video_is_expected_is_refused(host, tmp_path):
    url = host.serves("/a", answer(PNG, None))
    async with door(host) as fetcher:
        with pytest.raises(WrongType, match="expected video"):
            await fetcher.fetch(url, kinds=frozenset({"video"}), dest=tmp_path / "x")


async def test_a_small_wrong_body_is_judged_too(host, tmp_path):
    url = host.serves("/a", answer(b"nope", "image/png"))
    async with door(host) as fetcher:
        with pytest.raises(NotMedia):
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")


async def test_what_announces_itself_as_too_large_is_not_read(host, tmp_path):
    url = host.serves("/a", b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n")
    async with door(host) as fetcher:
        with pytest.raises(ResultTooLarge, match="5,000,000,000"):
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")
    assert not (tmp_path / "x").exists()


async def test_an_endless_body_without_a_length_is_cut_at_the_limit(host, tmp_path):
    sent = 0

    async def endless(_, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConnection: close\r\n\r\n" + PNG)
        while not writer.is_closing():
            writer.write(b"\0" * 65536)
            sent += 65536
            await writer.drain()

    async with door(host, sizes=SizeLimits(image=1_000_000)) as fetcher:
        with pytest.raises(ResultTooLarge, match="1,000,000"):
            await fetcher.fetch(host.on("/a", endless), kinds=None, dest=tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert sent < 50_000_000


async def test_the_limit_of_a_picture_holds_although_a_video_might_be_larger(host, tmp_path):
    url = host.serves("/a", answer(PNG))
    async with door(host, sizes=SizeLimits(image=10_000, video=10**9)) as fetcher:
        with pytest.raises(ResultTooLarge):
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")


@pytest.mark.parametrize("end", ["close", "reset", "chunked"])
async def test_a_body_that_ends_too_early_is_truncated_and_may_be_tried_again(host, tmp_path, end):
    async def cut(_, writer):
        head = b"Transfer-Encoding: chunked" if end == "chunked" else f"Content-Length: {len(PNG)}".encode()
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        half = PNG[: len(PNG) // 2]
        writer.write(f"{len(half):x}\r\n".encode() + half + b"\r\n" if end == "chunked" else half)
        await writer.drain()
        if end == "reset":
            writer.transport.abort()
        writer.close()

    async with door(host) as fetcher:
        with pytest.raises(ResultTruncated) as caught:
            await fetcher.fetch(host.on("/a", cut), kinds=None, dest=tmp_path / "x")
    assert caught.value.retryable
    assert not (tmp_path / "x").exists()


async def test_an_empty_body_is_truncated(host, tmp_path):
    async with door(host) as fetcher:
        with pytest.raises(ResultTruncated, match="empty"):
            await fetcher.fetch(host.serves("/a", answer(b"")), kinds=None, dest=tmp_path / "x")


async def test_a_host_that_falls_silent_is_left(host, tmp_path):
    gate = asyncio.Event()

    async def silent(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + PNG[:5000])
        await writer.drain()
        await gate.wait()

    async with door(host, stall_s=0.2) as fetcher:
        with pytest.raises(ResultUnreachable, match="silent") as caught:
            await fetcher.fetch(host.on("/a", silent), kinds=None, dest=tmp_path / "x")
    gate.set()
    assert caught.value.retryable
    assert not (tmp_path / "x").exists()


async def test_a_slow_drip_is_left_when_the_total_time_is_over(host, tmp_path):
    async def drip(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for byte in PNG:
            if writer.is_closing():
                return
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with door(host, total_s=0.6, stall_s=5) as fetcher:
        with pytest.raises(ResultUnreachable, match="longer than"):
            await fetcher.fetch(host.on("/a", drip), kinds=None, dest=tmp_path / "x")
    assert not (tmp_path / "x").exists()


async def test_a_compressed_answer_nobody_asked_for_is_not_media(host, tmp_path):
    import gzip

    url = host.serves("/a", answer(gzip.compress(PNG), "image/png", "200 OK", "Content-Encoding: gzip"))
    async with door(host) as fetcher:
        with pytest.raises(NotMedia):
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")


# --- statuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_result_that_is_gone_has_expired(host, tmp_path, status):
    url = host.serves("/a", answer(b"<Error>", "application/xml", f"{status} Gone"))
    async with door(host) as fetcher:
        with pytest.raises(ResultExpired) as caught:
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "status,retryable", [(429, True), (500, True), (503, True), (408, True), (400, False), (206, False)]
)
async def test_other_answers_say_whether_trying_again_helps(host, tmp_path, status, retryable):
    url = host.serves("/a", answer(PNG, "image/png", f"{status} X", "Retry-After: 7"))
    async with door(host) as fetcher:
        with pytest.raises(ResultUnreachable) as caught:
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "x")
    assert caught.value.retryable is retryable
    assert caught.value.retry_after_s == 7


async def test_a_host_that_is_not_there_is_unreachable(tmp_path):
    async with fetching("127.0.0.1:1") as fetcher:
        with pytest.raises(ResultUnreachable) as caught:
            await fetcher.fetch("http://127.0.0.1:1/x", kinds=None, dest=tmp_path / "x")
    assert caught.value.retryable


async def test_a_name_that_does_not_resolve_is_unreachable(tmp_path):
    async def resolver(name: str, port: int) -> list[str]:
        raise OSError("no such name")

    async with fetching(resolver=resolver) as fetcher:
        with pytest.raises(ResultUnreachable, match="does not resolve"):
            await fetcher.fetch("http://nowhere.example/x", kinds=None, dest=tmp_path / "x")


async def test_what_is_not_http_is_unreachable(host, tmp_path):
    async with door(host) as fetcher:
        with pytest.raises(ResultUnreachable):
            await fetcher.fetch(host.serves("/a", b"SSH-2.0-OpenSSH\r\n\r\n"), kinds=None, dest=tmp_path / "x")


async def test_a_cancelled_download_leaves_nothing_behind(host, tmp_path):
    begun, gate = asyncio.Event(), asyncio.Event()

    async def stuck(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + PNG[:5000])
        await writer.drain()
        begun.set()
        await gate.wait()

    async with door(host) as fetcher:
        task = asyncio.create_task(fetcher.fetch(host.on("/a", stuck), kinds=None, dest=tmp_path / "x"))
        await begun.wait()
        while not (tmp_path / "x").exists():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        assert not (tmp_path / "x").exists()
        assert (await fetcher.fetch(host.serves("/b", answer(PNG)), kinds=None, dest=tmp_path / "x")).bytes == len(PNG)


# --- results that are here already ----------------------------------------------------------------------------


async def test_data_uris_bytes_and_files_pass_by_the_same_rules(tmp_path):
    uri = "data:image/png;base64," + base64.b64encode(PNG).decode()
    source = tmp_path / "made.mp4"
    source.write_bytes(MP4)
    async with fetching() as fetcher:
        assert (await fetcher.fetch(uri, kinds=IMAGES, dest=tmp_path / "a")).mime == "image/png"
    assert (await take_bytes(PNG, kinds=IMAGES, dest=tmp_path / "b")).sha256 == hashlib.sha256(PNG).digest()
    assert (await take_file(source, kinds=None, dest=tmp_path / "c")).mime == "video/mp4"
    assert [(tmp_path / name).read_bytes() for name in "abc"] == [PNG, PNG, MP4]
    assert source.exists()


@pytest.mark.parametrize(
    "uri,error",
    [
        ("data:image/png;base64,@@@@", NotMedia),
        ("data:image/png;base64", NotMedia),
        ("data:,hello", NotMedia),
        ("data:image/png;base64,", ResultTruncated),
        ("data:video/mp4;base64," + base64.b64encode(PNG).decode(), WrongType),
        ("data:text/html;base64," + base64.b64encode(PNG).decode(), WrongType),
    ],
)
async def test_a_bad_data_uri_is_refused(tmp_path, uri, error):
    with pytest.raises(error):
        await take_data_uri(uri, kinds=None, dest=tmp_path / "x")
    assert not (tmp_path / "x").exists()


async def test_a_data_uri_has_the_limits_of_a_download(tmp_path):
    small = SizeLimits(image=1000, video=1000, audio=1000)
    for data in (PNG, b"\0" * 100_000):
        uri = "data:image/png;base64," + base64.b64encode(data).decode()
        with pytest.raises(ResultTooLarge):
            await take_data_uri(uri, kinds=None, dest=tmp_path / "x", limits=small)


async def test_a_scratch_folder_that_cannot_be_written_is_storage_trouble(host, tmp_path):
    url = host.serves("/a", answer(PNG))
    async with door(host) as fetcher:
        with pytest.raises(StorageUnavailable) as caught:
            await fetcher.fetch(url, kinds=None, dest=tmp_path / "missing" / "x")
    assert caught.value.retryable
    with pytest.raises(StorageUnavailable):
        await take_file(Path("/nonexistent"), kinds=None, dest=tmp_path / "y")
