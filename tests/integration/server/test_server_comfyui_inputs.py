"""How a start image reaches a server at home: ours from storage by its signature, anybody else's through the guard."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from safelight.media.fetch import Fetcher
from safelight.media.sign import MediaSigner
from safelight.media.store import Store, open_store
from safelight.providers.comfyui import InputUnreadable
from safelight.server.inputs import InputDoor

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "p/01a1fde0-0000-7000-8000-000000000000/uploads/aa.png"
OURS = "http://127.0.0.1:8080"


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(picture)
    made = open_store((tmp_path / "media").resolve().as_uri(), is_durable=False)
    await made.put_file(KEY, picture, "image/png")
    await made.put_file(KEY.replace(".png", ".mp4"), picture, "video/mp4")
    return made


@pytest.fixture
async def door(store: Store) -> AsyncIterator[InputDoor]:
    fetcher = Fetcher()
    yield InputDoor(fetcher, store, MediaSigner(b"0" * 16), ("https://us.example", "", OURS), lambda: NOW)
    await fetcher.close()


def signed(key: str = KEY, at: datetime = NOW, secret: bytes = b"0" * 16) -> str:
    return MediaSigner(secret).sign(key, at)


@pytest.mark.parametrize("base", [OURS, "https://us.example"])
async def test_a_file_of_ours_is_read_from_storage_by_its_signature(door: InputDoor, tmp_path: Path, base: str):
    assert await door(base + signed(), tmp_path / "x") == "image/png"
    assert Image.open(tmp_path / "x").size == (8, 8)


@pytest.mark.parametrize(
    "url",
    [
        OURS + signed(secret=b"1" * 16),
        OURS + signed(at=NOW - timedelta(days=9)),
        OURS + signed().replace("aa.png", "bb.png"),
        OURS + "/media/" + KEY,
        OURS + "/v1/projects",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "/media/" + KEY,
        "",
    ],
)
async def test_without_its_signature_an_address_of_this_machine_is_a_private_one(door, tmp_path, url):
    with pytest.raises(InputUnreadable) as caught:
        await door(url, tmp_path / "x")
    assert not caught.value.may_repeat
    assert not (tmp_path / "x").exists()


async def test_a_file_that_is_gone_or_no_picture_is_told_so(door: InputDoor, tmp_path: Path):
    for key in (KEY.replace("aa", "bb"), KEY.replace(".png", ".mp4")):
        with pytest.raises(InputUnreadable):
            await door(OURS + signed(key), tmp_path / "x")


async def test_a_data_url_is_taken_as_it_is(door: InputDoor, tmp_path: Path):
    gif = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    assert await door(gif, tmp_path / "x") == "image/gif"


async def test_nobody_on_this_machine_is_called(door: InputDoor, tmp_path: Path):
    called = asyncio.Event()

    async def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        writer.close()

    listener = socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(hear, sock=listener)
    with pytest.raises(InputUnreadable):
        await door(f"http://localhost:{listener.getsockname()[1]}/a.png", tmp_path / "x")
    server.close()
    await server.wait_closed()
    assert not called.is_set()
