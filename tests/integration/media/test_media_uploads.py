"""Start images from the user's side (M5), on a real database and real files."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from safelight.media import synth, uploads
from safelight.media.errors import (
    StorageUnavailable,
    UploadHashMismatch,
    UploadInUse,
    UploadInvalid,
    UploadMissing,
    UploadNotMedia,
    UploadOffsetMismatch,
    UploadStalled,
    UploadTooLarge,
    UploadTooMany,
)
from safelight.media.sign import MediaSigner
from safelight.media.store import open_store
from safelight.media.uploads import Uploads, parse_offset

PNG = synth.picture("a red fox", 1, 120, 90)
MP4 = synth.clip("the sea", 1, 64, 48, 0.5)
NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def chunks(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def breaking(data: bytes) -> AsyncIterator[bytes]:
    yield data
    raise ConnectionResetError("the client went away")


@pytest.fixture
async def project(db):
    async with db.connection() as conn:
        return await conn.fetchval("insert into projects (name) values ('p') returning id")


@pytest.fixture
def store(tmp_path):
    return open_store(f"file://{tmp_path}/media")


@pytest.fixture
def service(db, store, tmp_path):
    return Uploads(db, store, MediaSigner(b"0123456789abcdef"), tmp_path / "staging", stall_s=0.5)


@pytest.fixture
def announce(service, project):
    async def announce(data: bytes = PNG, *, size=None, mime="image/png", known=True, now=NOW, filename="fox.png"):
        size = len(data) if size is None else size
        digest = sha(data) if known else None
        return await service.begin(project, filename=filename, mime=mime, size=size, sha256=digest, now=now)

    return announce


def staged(service) -> list[str]:
    return sorted(path.name for path in service._staging.iterdir())


async def rows(db) -> list:
    async with db.connection() as conn:
        return await conn.fetch("select * from uploads order by created_at, id")


async def test_a_whole_file_in_one_request_becomes_ready(service, announce, store, db):
    begun = await announce(known=False)
    shown = service.present(begun, NOW)
    assert shown["state"] == "pending"
    assert shown["upload"] == {
        "method": "PUT",
        "url": f"/v1/uploads/{begun.id}/content",
        "offset": 0,
        "max_chunk": uploads.CHUNK_ADVISED,
    }
    ready = await service.receive(begun.id, None, chunks(PNG), NOW)
    shown = service.present(ready, NOW)
    assert (shown["id"], shown["state"], shown["mime"], shown["bytes"]) == (
        str(begun.id),
        "ready",
        "image/png",
        len(PNG),
    )
    assert (shown["width"], shown["height"], shown["sha256"]) == (120, 90, sha(PNG))
    assert shown["thumbhash"]
    assert shown["url"].startswith(f"/media/{ready.storage_key}?e=")
    assert b"".join([b async for b in store.get_range(ready.storage_key, 0, len(PNG))]) == PNG
    assert staged(service) == []
    assert await service.get(begun.id, NOW) == ready


async def test_a_video_may_be_uploaded_too(service, announce):
    begun = await announce(MP4, mime="video/mp4")
    ready = await service.receive(begun.id, 0, chunks(MP4), NOW)
    assert (ready.kind, ready.mime, ready.width, ready.duration_s) == ("video", "video/mp4", 64, 0.5)


async def test_an_upload_goes_on_where_the_line_broke_also_after_a_restart(service, announce, db, store, tmp_path):
    begun = await announce()
    with pytest.raises(ConnectionResetError):
        await service.receive(begun.id, 0, breaking(PNG[:5000]), NOW)
    reborn = Uploads(db, store, MediaSigner(b"0123456789abcdef"), tmp_path / "staging")
    assert (await reborn.get(begun.id, NOW)).received == 5000
    with pytest.raises(UploadOffsetMismatch) as caught:
        await reborn.receive(begun.id, 4000, chunks(PNG[4000:]), NOW)
    assert caught.value.offset == 5000
    middle = await reborn.receive(begun.id, 5000, chunks(PNG[5000:6000]), NOW)
    assert (middle.state, middle.received) == ("pending", 6000)
    ready = await reborn.receive(begun.id, 6000, chunks(PNG[6000:]), NOW)
    assert (ready.state, ready.sha256) == ("ready", hashlib.sha256(PNG).digest())


async def test_the_staging_file_is_truer_than_the_row_after_a_crash(service, announce, db):
    begun = await announce()
    await service.receive(begun.id, 0, chunks(PNG[:3000]), NOW)
    async with db.connection() as conn:  # SIGKILL came between the bytes and the row
        await conn.execute("update uploads set received = 0")
    assert (await service.get(begun.id, NOW)).received == 3000
    assert (await service.receive(begun.id, 3000, chunks(PNG[3000:]), NOW)).state == "ready"


async def test_a_crash_after_the_last_byte_is_completed_by_an_empty_request(service, announce):
    begun = await announce()
    (service._staging / f"{begun.id}.part").write_bytes(PNG)
    assert (await service.get(begun.id, NOW)).received == len(PNG)
    assert (await service.receive(begun.id, len(PNG), chunks(b""), NOW)).state == "ready"


async def test_a_whole_file_sent_again_starts_again(service, announce):
    begun = await announce()
    await service.receive(begun.id, None, chunks(PNG[:3000]), NOW)
    assert (await service.receive(begun.id, None, chunks(PNG), NOW)).state == "ready"


async def test_sending_to_a_ready_upload_changes_nothing(service, announce, db):
    begun = await announce()
    ready = await service.receive(begun.id, None, chunks(PNG), NOW)
    assert await service.receive(begun.id, None, chunks(b"other"), NOW) == ready
    assert staged(service) == []


async def test_known_bytes_need_not_be_sent(service, announce, db):
    first = await service.receive((await announce()).id, None, chunks(PNG), NOW)
    again = await announce()
    assert again == first
    assert len(await rows(db)) == 1


async def test_an_unfinished_upload_is_gone_on_with_after_a_reload_of_the_page(service, announce, db):
    begun = await announce()
    await service.receive(begun.id, 0, chunks(PNG[:3000]), NOW)
    again = await announce()
    assert (again.id, again.received) == (begun.id, 3000)
    assert len(await rows(db)) == 1


async def test_the_same_bytes_without_an_announced_hash_end_as_one_upload(service, announce, db):
    first = await service.receive((await announce(known=False)).id, None, chunks(PNG), NOW)
    second = await announce(known=False)
    assert second.id != first.id
    assert await service.receive(second.id, None, chunks(PNG), NOW) == first
    assert [row["id"] for row in await rows(db)] == [first.id]
    with pytest.raises(UploadMissing):
        await service.get(second.id, NOW)


async def test_the_same_bytes_at_the_same_time_end_as_one_upload(service, announce, db):
    begun = [await announce(known=False) for _ in range(5)]
    ready = await asyncio.gather(*(service.receive(each.id, None, chunks(PNG), NOW) for each in begun))
    assert len({each.id for each in ready}) == 1
    assert [row["state"] for row in await rows(db)] == ["ready"]
    assert staged(service) == []


async def test_two_projects_do_not_learn_of_each_others_files(service, announce, db):
    first = await service.receive((await announce()).id, None, chunks(PNG), NOW)
    async with db.connection() as conn:
        other = await conn.fetchval("insert into projects (name) values ('q') returning id")
    theirs = await service.begin(other, filename=None, mime=None, size=len(PNG), sha256=sha(PNG), now=NOW)
    assert (theirs.state, theirs.id != first.id) == ("pending", True)


async def test_two_writers_of_one_upload_do_not_mix(service, announce):
    begun = await announce()
    holding, gate = asyncio.Event(), asyncio.Event()

    async def slow():
        yield PNG[:2000]
        holding.set()
        await gate.wait()
        yield PNG[2000:]

    first = asyncio.create_task(service.receive(begun.id, 0, slow(), NOW))
    await holding.wait()
    with pytest.raises(UploadInUse) as caught:
        await service.receive(begun.id, 0, chunks(PNG), NOW)
    assert caught.value.retryable
    gate.set()
    assert (await first).state == "ready"


async def test_a_client_that_falls_silent_is_left_and_its_bytes_are_kept(service, announce):
    begun = await announce()

    async def silent():
        yield PNG[:2000]
        await asyncio.Event().wait()

    with pytest.raises(UploadStalled) as caught:
        await service.receive(begun.id, 0, silent(), NOW)
    assert caught.value.retryable
    assert (await service.get(begun.id, NOW)).received == 2000


async def test_a_client_that_drips_for_ever_is_left_and_its_bytes_are_kept(service, announce):
    service._body_s = 0.3
    upload = await announce()

    async def drips():
        for at in range(len(PNG)):
            yield PNG[at : at + 1]
            await asyncio.sleep(0.05)

    with pytest.raises(UploadStalled, match="took"):
        await service.receive(upload.id, 0, drips(), NOW)
    kept = (await service.get(upload.id, NOW)).received
    assert 0 < kept < len(PNG)
    assert (await service.receive(upload.id, kept, chunks(PNG[kept:]), NOW)).state == "ready"


async def test_more_bytes_than_announced_are_refused_and_what_was_right_is_kept(service, announce):
    begun = await announce()
    await service.receive(begun.id, 0, chunks(PNG[:1000]), NOW)
    with pytest.raises(UploadTooLarge):
        await service.receive(begun.id, 1000, chunks(PNG[1000:] + b"more" * 100), NOW)
    assert (await service.get(begun.id, NOW)).received == 1000
    assert (await service.receive(begun.id, 1000, chunks(PNG[1000:]), NOW)).state == "ready"


async def test_other_bytes_than_announced_are_refused_and_it_can_start_again(service, announce):
    begun = await announce()
    wrong = bytearray(PNG)
    wrong[-20] ^= 1
    with pytest.raises(UploadHashMismatch):
        await service.receive(begun.id, None, chunks(bytes(wrong)), NOW)
    assert (await service.get(begun.id, NOW)).received == 0
    assert (await service.receive(begun.id, 0, chunks(PNG), NOW)).state == "ready"


@pytest.mark.parametrize(
    "data,mime",
    [
        (b"<html>" * 500, "image/png"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", None),
        (PNG, "video/mp4"),
        (PNG[: len(PNG) // 2], "image/png"),
        (MP4[: len(MP4) // 2], "video/mp4"),
        (os.urandom(2000), None),
    ],
)
async def test_what_is_no_picture_or_video_is_never_stored(service, announce, tmp_path, data, mime):
    begun = await announce(data, mime=mime)
    with pytest.raises(UploadNotMedia):
        await service.receive(begun.id, None, chunks(data), NOW)
    assert (await service.get(begun.id, NOW)).received == 0
    assert not [path for path in (tmp_path / "media").rglob("*") if path.is_file()]


async def test_a_storage_that_fails_costs_no_second_upload(service, announce, tmp_path):
    begun = await announce()
    (tmp_path / "media" / "p").write_bytes(b"in the way")
    with pytest.raises(StorageUnavailable):
        await service.receive(begun.id, None, chunks(PNG), NOW)
    (tmp_path / "media" / "p").unlink()
    assert (await service.get(begun.id, NOW)).received == len(PNG)
    assert (await service.receive(begun.id, len(PNG), chunks(b""), NOW)).state == "ready"


@pytest.mark.parametrize(
    "change,error",
    [
        ({"size": 0}, UploadInvalid),
        ({"size": -1}, UploadInvalid),
        ({"size": uploads.BYTES_MAX + 1}, UploadTooLarge),
        ({"mime": "image/svg+xml"}, UploadInvalid),
        ({"mime": "text/html"}, UploadInvalid),
        ({"mime": "audio/mpeg"}, UploadInvalid),
        ({"sha256": "xyz"}, UploadInvalid),
        ({"project_id": uuid4()}, UploadMissing),
    ],
)
async def test_a_bad_announcement_is_refused_and_changes_nothing(service, project, db, change, error):
    good = {"project_id": project, "filename": "x", "mime": "image/png", "size": 10, "sha256": None, "now": NOW}
    arguments = good | change
    with pytest.raises(error):
        await service.begin(arguments.pop("project_id"), **arguments)
    assert await rows(db) == []


async def test_unfinished_uploads_are_bounded_per_project(service, announce, monkeypatch):
    monkeypatch.setattr(uploads, "PENDING_MAX", 3)
    for _ in range(3):
        await announce(known=False)
    with pytest.raises(UploadTooMany) as caught:
        await announce(known=False)
    assert caught.value.retryable
    await announce(known=False, now=NOW + timedelta(hours=25))


async def test_what_is_not_finished_in_time_goes_away_and_what_is_ready_stays(service, announce, db):
    ready = await service.receive((await announce()).id, None, chunks(PNG), NOW)
    old = await announce(MP4, mime="video/mp4")
    await service.receive(old.id, 0, chunks(MP4[:100]), NOW)
    later = NOW + timedelta(hours=25)
    with pytest.raises(UploadMissing):
        await service.receive(old.id, 100, chunks(MP4[100:]), later)
    young = await announce(MP4, mime="video/mp4", known=False, now=later)
    stray = service._staging / f"{uuid4()}.part"
    stray.write_bytes(b"x")
    os.utime(service._staging / f"{old.id}.part", (0, 0))
    os.utime(stray, (0, 0))
    assert await service.sweep(later) == 2
    assert {row["id"] for row in await rows(db)} == {ready.id, young.id}
    assert staged(service) == []
    assert await service.sweep(later) == 0


async def test_each_byte_received_gives_a_day_more(service, announce):
    begun = await announce()
    later = NOW + timedelta(hours=20)
    await service.receive(begun.id, 0, chunks(PNG[:100]), later)
    assert (await service.get(begun.id, later + timedelta(hours=20))).received == 100


async def test_an_unknown_upload_is_missing_and_leaves_no_file(service):
    with pytest.raises(UploadMissing):
        await service.receive(uuid4(), None, chunks(PNG), NOW)
    assert staged(service) == []


@pytest.mark.parametrize(
    "offset,content_range,expected",
    [
        (None, None, None),
        ("0", None, 0),
        ("1024", "bytes 5-6/7", 1024),
        (None, "bytes 1024-2047/4096", 1024),
        (None, "bytes 0-0/*", 0),
    ],
)
def test_where_a_body_starts_is_read_from_its_headers(offset, content_range, expected):
    assert parse_offset(offset, content_range) == expected


@pytest.mark.parametrize(
    "offset,content_range",
    [
        ("-1", None),
        ("x", None),
        ("", None),
        ("9" * 20, None),
        (None, "bytes 5-4/9"),
        (None, "0-5"),
        (None, "bytes */9"),
    ],
)
def test_a_senseless_start_is_refused(offset, content_range):
    with pytest.raises(UploadInvalid):
        parse_offset(offset, content_range)
