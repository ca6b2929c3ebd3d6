"""Files are kept for good, in a folder and in a bucket alike (M1)."""

import asyncio
import os
from uuid import uuid4

import boto3
import pytest
from moto.server import ThreadedMotoServer

from safelight.media.errors import ObjectMissing, StorageUnavailable
from safelight.media.mediatype import TYPES
from safelight.media.store import Store, generation_key, mime_of, open_store, upload_key

ACCESS = {"access_key_id": "testing", "secret_access_key": "testing", "region": "us-east-1"}


@pytest.fixture(scope="module")
def s3_endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint):
    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        region_name="us-east-1",
    )
    name = f"b-{uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return client, name


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path) -> Store:
    if request.param == "folder":
        return open_store(f"file://{tmp_path}/my%20media")
    endpoint, (_, name) = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("bucket")
    return open_store(f"s3://{name}/some/prefix", endpoint=endpoint, **ACCESS)


async def read(store: Store, key: str, start: int, end: int) -> bytes:
    return b"".join([block async for block in store.get_range(key, start, end)])


async def test_what_is_put_can_be_read_whole_and_in_parts(store, tmp_path):
    data = os.urandom(100_000)
    await store.put_bytes("p/1/2/original.png", data, "image/png")
    info = await store.head("p/1/2/original.png")
    assert (info.size, info.mime) == (100_000, "image/png")
    assert info.etag.startswith('"')
    assert info.etag.endswith('"')
    assert await read(store, "p/1/2/original.png", 0, 100_000) == data
    assert await read(store, "p/1/2/original.png", 99_990, 100_000) == data[-10:]
    assert await read(store, "p/1/2/original.png", 5, 6) == data[5:6]
    assert await read(store, "p/1/2/original.png", 5, 5) == b""
    await store.download("p/1/2/original.png", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


async def test_a_file_of_several_parts_arrives_whole(store, tmp_path):
    data = os.urandom(21_000_001)
    (tmp_path / "large").write_bytes(data)
    await store.put_file("p/1/v/original.mp4", tmp_path / "large", "video/mp4")
    assert (await store.head("p/1/v/original.mp4")).size == len(data)
    assert await read(store, "p/1/v/original.mp4", 0, len(data)) == data
    assert await read(store, "p/1/v/original.mp4", 8_388_600, 16_777_300) == data[8_388_600:16_777_300]


async def test_putting_twice_is_putting_once(store):
    for _ in range(2):
        await store.put_bytes("p/1/2/poster.webp", b"same", "image/webp")
    assert await read(store, "p/1/2/poster.webp", 0, 4) == b"same"


async def test_many_writers_of_the_same_key_leave_one_whole_file(store):
    data = os.urandom(300_000)
    await asyncio.gather(*(store.put_bytes("p/1/2/original.png", data, "image/png") for _ in range(8)))
    assert await read(store, "p/1/2/original.png", 0, len(data)) == data


async def test_what_is_missing_is_said_to_be_missing(store, tmp_path):
    assert not await store.exists("p/none.png")
    with pytest.raises(ObjectMissing):
        await store.head("p/none.png")
    with pytest.raises(ObjectMissing):
        await read(store, "p/none.png", 0, 10)
    with pytest.raises(ObjectMissing):
        await store.download("p/none.png", tmp_path / "x")


async def test_deleting_twice_is_deleting_once(store):
    await store.put_bytes("p/1/2/a.png", b"x", "image/png")
    await store.put_bytes("p/1/2/b.png", b"x", "image/png")
    for _ in range(2):
        await store.delete(["p/1/2/a.png", "p/1/2/never.png"])
    assert not await store.exists("p/1/2/a.png")
    assert await store.exists("p/1/2/b.png")


BAD_KEYS = ["", "/etc/passwd", "../x", "p/../x", "p/./x", "p//x", "p/.hidden", "p/x/", "p\\x", "p/a b", "p/%2e%2e/x"]


@pytest.mark.parametrize("key", [*BAD_KEYS, "p/\0", "é", "a" * 600])
async def test_a_key_that_is_not_ours_never_reaches_the_storage(store, key):
    with pytest.raises(ObjectMissing):
        await store.head(key)
    with pytest.raises(ObjectMissing):
        await store.put_bytes(key, b"x", "image/png")
    with pytest.raises(ObjectMissing):
        await read(store, key, 0, 1)
    with pytest.raises(ObjectMissing):
        await store.delete([key])


async def test_a_bucket_knows_the_type_of_what_it_holds(s3_endpoint, bucket):
    client, name = bucket
    store = open_store(f"s3://{name}/pre", endpoint=s3_endpoint, **ACCESS)
    await store.put_bytes("p/1/2/thumb-256.webp", b"x", "image/webp")
    assert client.head_object(Bucket=name, Key="pre/p/1/2/thumb-256.webp")["ContentType"] == "image/webp"


async def test_a_folder_holds_plain_files_and_no_leftovers(tmp_path):
    store = open_store(f"file://{tmp_path}/m")
    data = os.urandom(9_000_000)
    (tmp_path / "large").write_bytes(data)
    await store.put_file("p/1/2/original.mp4", tmp_path / "large", "video/mp4")
    files = [path for path in (tmp_path / "m").rglob("*") if path.is_file()]
    assert [str(path.relative_to(tmp_path / "m")) for path in files] == ["p/1/2/original.mp4"]
    assert files[0].read_bytes() == data
    await store.delete(["p/1/2/original.mp4"])
    assert list((tmp_path / "m").iterdir()) == [], "empty folders do not pile up"


async def test_a_folder_that_was_emptied_and_is_used_again_keeps_what_comes(tmp_path):
    store = open_store(f"file://{tmp_path}/m")
    for _ in range(3):
        await store.put_bytes("p/1/2/a.png", b"x", "image/png")
        await store.delete(["p/1/2/a.png"])
    await store.put_bytes("p/1/2/a.png", b"y", "image/png")
    assert (tmp_path / "m/p/1/2/a.png").read_bytes() == b"y"


async def test_a_storage_that_does_not_answer_or_refuses_is_unavailable(s3_endpoint, tmp_path):
    missing = open_store("s3://no-such-bucket-here/x", endpoint=s3_endpoint, **ACCESS)
    with pytest.raises(StorageUnavailable) as caught:
        await missing.put_bytes("p/a.png", b"x", "image/png")
    assert caught.value.retryable
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable):
        open_store(f"file://{tmp_path}/file/inside")
    for url in ("file://elsewhere/x", "nonsense://x", "s3:///"):
        with pytest.raises(StorageUnavailable) as caught:
            open_store(url)
        assert not caught.value.retryable


def test_keys_are_made_in_one_place_and_name_their_type():
    project, generation = uuid4(), uuid4()
    key = generation_key(project, generation, "thumb-256.webp")
    assert key == f"p/{project}/{generation}/thumb-256.webp"
    assert mime_of(key) == "image/webp"
    assert mime_of(upload_key(project, b"\xab" * 32, TYPES["image/jpeg"])) == "image/jpeg"
    assert mime_of("p/x.html") is None
    assert mime_of("p/png") is None
