"""What a browser gets from `/media`, over a real server (M3)."""

import asyncio
import contextlib
import os
import socket
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from safelight.media.serve import disposition, media_route
from safelight.media.sign import MediaSigner
from safelight.media.store import open_store

KEY = "p/1/2/original.mp4"
DATA = os.urandom(3_000_000)
SIGNER = MediaSigner(b"0123456789abcdef")
NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@contextlib.asynccontextmanager
async def serving(app):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def site(tmp_path):
    clock = Clock()
    store = open_store(f"file://{tmp_path}/m")
    await store.put_bytes(KEY, DATA, "video/mp4")
    await store.put_bytes("p/1/2/page.html", b"<script>", "text/html")
    app = Starlette(routes=[media_route(store, SIGNER, clock)])
    async with serving(app) as base, httpx.AsyncClient(base_url=base) as client:
        client.clock, client.folder = clock, tmp_path / "m"
        yield client


def url(key: str = KEY) -> str:
    return SIGNER.sign(key, NOW)


async def test_a_signed_url_gives_the_file_with_the_headers_of_an_immutable_private_file(site):
    answer = await site.get(url())
    assert (answer.status_code, answer.content) == (200, DATA)
    headers = answer.headers
    assert headers["content-type"] == "video/mp4"
    assert headers["content-length"] == str(len(DATA))
    assert headers["cache-control"] == "private, max-age=31536000, immutable"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["accept-ranges"] == "bytes"
    assert headers["content-security-policy"].startswith("sandbox")
    assert "content-disposition" not in headers


async def test_head_gives_the_same_headers_and_no_body(site):
    get, head = await site.get(url()), await site.head(url(), headers={"Range": "bytes=0-9"})
    assert (head.status_code, head.content) == (200, b"")
    ours = ("etag", "content-length", "content-type", "cache-control")
    assert [head.headers[name] for name in ours] == [get.headers[name] for name in ours]


async def test_without_a_good_signature_nothing_is_told_not_even_whether_the_file_exists(site):
    good = url()
    for bad in (
        f"/media/{KEY}",
        good[:-2] + ("AA" if not good.endswith("AA") else "BB"),
        good.replace("original", "poster"),
        good.replace("e=", "e=9"),
        "/media/p/none.png?e=99999999999&s=x",
        "/media/../../etc/passwd?e=1&s=1",
        "/media/?e=&s=",
    ):
        answer = await site.get(bad)
        if bad.startswith("/media/.."):
            assert answer.status_code in (403, 404)
            continue
        assert answer.status_code == 403, bad
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["code"] == "forbidden"


async def test_a_url_expires(site):
    link = url()
    site.clock.now = NOW + timedelta(hours=24)
    assert (await site.head(link)).status_code == 200
    site.clock.now = NOW + timedelta(hours=48)
    assert (await site.head(link)).status_code == 403


async def test_a_signed_file_that_is_gone_is_a_404(site):
    answer = await site.get(url("p/1/2/none.png"))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["cache-control"] == "no-store"


async def test_a_file_that_is_none_of_our_types_is_never_served(site):
    assert (await site.get(url("p/1/2/page.html"))).status_code == 404


async def test_what_the_browser_has_is_not_sent_again(site):
    etag = (await site.head(url())).headers["etag"]
    for header in (etag, f'"other", W/{etag}', "*"):
        answer = await site.get(url(), headers={"If-None-Match": header})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert "immutable" in answer.headers["cache-control"]
    assert (await site.get(url(), headers={"If-None-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize(
    "asked,start,end",
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, len(DATA)),
        ("bytes=1000000-1999999", 1_000_000, 2_000_000),
        ("bytes=-5", len(DATA) - 5, len(DATA)),
        ("bytes=2999999-9999999", len(DATA) - 1, len(DATA)),
    ],
)
async def test_a_range_gives_exactly_that_part(site, asked, start, end):
    answer = await site.get(url(), headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == DATA[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=3000000-", "bytes=-0"])
async def test_a_range_beyond_the_end_is_a_416_that_tells_the_size(site, asked):
    answer = await site.get(url(), headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-1", "lines=1-2", "garbage"])
async def test_a_range_we_do_not_serve_gives_the_whole_file(site, asked):
    answer = await site.get(url(), headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, len(DATA))


async def test_if_range_gives_the_part_only_of_the_same_file(site):
    etag = (await site.head(url())).headers["etag"]
    same = await site.get(url(), headers={"Range": "bytes=0-9", "If-Range": etag})
    other = await site.get(url(), headers={"Range": "bytes=0-9", "If-Range": '"older"'})
    dated = await site.get(url(), headers={"Range": "bytes=0-9", "If-Range": "Tue, 05 May 2026 12:00:00 GMT"})
    assert [same.status_code, other.status_code, dated.status_code] == [206, 200, 200]


async def test_a_download_gets_the_name_it_asks_for(site):
    answer = await site.get(url() + "&download=Füchse%20im%20Schnee.mp4")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"F_chse im Schnee.mp4\"; filename*=UTF-8''F%C3%BCchse%20im%20Schnee.mp4"
    )
    bare = await site.head(url() + "&download=")
    assert 'filename="original.mp4"' in bare.headers["content-disposition"]


@given(st.text(max_size=300))
def test_no_name_breaks_out_of_its_header_or_folder(name):
    header = disposition(name, KEY)
    assert header.isascii()
    assert header.isprintable()
    plain = header.split('"')
    assert len(plain) == 3
    assert not set(plain[1]) & set("/\\:*?<>|%\r\n")


async def test_a_file_that_shrinks_while_it_is_sent_breaks_the_connection(site):
    async def read_while_it_shrinks() -> None:
        async with site.stream("GET", url()) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_raw(65536):
                os.truncate(site.folder / KEY, 1000)

    with pytest.raises(httpx.RemoteProtocolError):
        await read_while_it_shrinks()


async def test_other_methods_are_refused(site):
    assert (await site.post(url())).status_code == 405
    assert (await site.delete(url())).status_code == 405
