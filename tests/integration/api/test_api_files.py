"""Files over HTTP: start images up (M5), stored results down, by signed addresses only (M3)."""

from __future__ import annotations

import hashlib
import io
import json
from datetime import timedelta
from uuid import uuid4

import pytest
from api_world import Json, World, assert_problem, ok, small, until
from PIL import Image

from safelight.access.secret_store import installation_secret
from safelight.media.sign import MediaSigner


def picture(colour: str = "red", size: int = 64) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((size, size), 80).convert("RGB").save(file, "png")
    file.write(colour.encode())
    return file.getvalue()


async def announced(world: World, content: bytes, **given: object) -> Json:
    body = {"bytes": len(content), "filename": "start.png", "mime": "image/png", **given}
    return ok(await world.api.post(f"{world.p}/uploads", json=body), 201)


async def sent(world: World, content: bytes) -> Json:
    upload = await announced(world, content)
    return ok(await world.api.put(upload["upload"]["url"], content=content))


async def test_a_picture_goes_up_whole_and_can_be_seen(world: World) -> None:
    content = picture()
    upload = await announced(world, content)
    assert upload["state"] == "pending"
    assert upload["upload"]["method"] == "PUT"
    assert upload["upload"]["offset"] == 0
    ready = ok(await world.api.put(upload["upload"]["url"], content=content))
    assert (ready["id"], ready["state"], ready["mime"]) == (upload["id"], "ready", "image/png")
    assert (ready["width"], ready["height"], ready["bytes"]) == (64, 64, len(content))
    assert ready["sha256"] == hashlib.sha256(content).hexdigest()
    seen = await world.client().get(ready["url"])
    assert seen.content == content
    assert ok(await world.api.get(f"/v1/uploads/{upload['id']}"))["state"] == "ready"


async def test_a_broken_line_goes_on_where_it_broke(world: World) -> None:
    content = picture(size=200)
    upload = await announced(world, content)
    url, half = upload["upload"]["url"], len(content) // 2
    first = ok(await world.api.put(url, content=content[:half], headers={"upload-offset": "0"}))
    assert (first["state"], first["upload"]["offset"]) == ("pending", half)
    assert ok(await world.api.get(f"/v1/uploads/{upload['id']}"))["upload"]["offset"] == half
    wrong = await world.api.put(url, content=content[10:], headers={"upload-offset": "10"})
    assert assert_problem(wrong, 409, "conflict")["offset"] == half, "it says where to go on"
    for header in ("-1", "x", "1e3", "9" * 20):
        answer = await world.api.put(url, content=content, headers={"upload-offset": header})
        assert_problem(answer, 422, "invalid_input")
    rest = {"content-range": f"bytes {half}-{len(content) - 1}/{len(content)}"}
    done = ok(await world.api.put(url, content=content[half:], headers=rest))
    assert (done["state"], done["sha256"]) == ("ready", hashlib.sha256(content).hexdigest())


async def test_bytes_that_are_known_are_not_sent_again(world: World) -> None:
    content = picture()
    first = await sent(world, content)
    known = await announced(world, content, sha256=first["sha256"])
    assert (known["id"], known["state"]) == (first["id"], "ready")
    unsaid = await sent(world, content)
    assert unsaid["id"] == first["id"], "the same bytes are one upload"
    other = world.client(await world.new_key(await world.new_project()))
    answer = await other.get(f"/v1/uploads/{first['id']}")
    assert_problem(answer, 404, "not_found")


@pytest.mark.parametrize("content", [b"<html>no</html>", b"\x89PNG\r\n\x1a\n but no more", b"\0" * 500])
async def test_what_is_no_picture_is_refused_and_forgotten(world: World, content: bytes) -> None:
    upload = await announced(world, content)
    answer = await world.api.put(upload["upload"]["url"], content=content)
    problem = assert_problem(answer, 422, "invalid_input")
    assert "upload_" not in problem["detail"], "a sentence, not a name of ours"
    assert ok(await world.api.get(f"/v1/uploads/{upload['id']}"))["upload"]["offset"] == 0


async def test_uploads_that_are_too_large_or_not_what_was_announced_are_refused(world: World) -> None:
    assert_problem(await world.api.post(f"{world.p}/uploads", json={"bytes": 10**9}), 413, "too_large")
    answer = await world.api.post(f"{world.p}/uploads", json={"bytes": 10, "mime": "application/pdf"})
    assert_problem(answer, 422, "invalid_input", "application/pdf")
    content = picture()
    more = await announced(world, content)
    assert_problem(await world.api.put(more["upload"]["url"], content=content + b"x"), 413, "too_large")
    other = await announced(world, content, sha256="0" * 64)
    assert_problem(await world.api.put(other["upload"]["url"], content=content), 422, "invalid_input", "announced")
    assert_problem(await world.api.put(f"/v1/uploads/{uuid4()}/content", content=b"x"), 404, "not_found")


async def test_unfinished_uploads_have_an_end(world: World) -> None:
    for _ in range(100):
        ok(await world.api.post(f"{world.p}/uploads", json={"bytes": 10}), 201)
    refused = await world.api.post(f"{world.p}/uploads", json={"bytes": 10})
    assert_problem(refused, 429, "rate_limited", "unfinished")
    assert int(refused.headers["retry-after"]) > 0


async def test_an_upload_or_a_result_starts_another_job(world: World) -> None:
    upload = await sent(world, picture(size=128))
    asked = {"prompt": "make it snow", "strength": 0.8}
    body = {"model": "fal-ai/flux/dev/image-to-image", "input": asked, "start": upload["id"]}
    job = await world.submit(body)
    assert job["start"] == upload["id"]
    assert "invalid" not in json.dumps(job["input"]), "the address is made at sending"
    [made] = (await world.reaches(job["id"], "completed"))["generations"]
    given = (await world.attempt_of(job["id"]))["input"]["image_url"]
    assert given.startswith(world.url + "/media/")
    assert (await world.client().get(given)).content == (await world.client().get(upload["url"])).content

    again = await world.submit(body | {"start": made})
    await world.reaches(again["id"], "completed")
    nothing = await world.api.post(f"{world.p}/jobs", json=body | {"start": str(uuid4())})
    assert_problem(nothing, 422, "invalid_input", "start")
    pending = await announced(world, picture("blue"))
    unfinished = await world.api.post(f"{world.p}/jobs", json=body | {"start": pending["id"]})
    assert_problem(unfinished, 422, "invalid_input", "start")
    none = {"model": body["model"], "input": asked}
    assert_problem(await world.api.post(f"{world.p}/jobs", json=none), 422, "invalid_input", "image_url")


async def test_a_result_is_read_by_its_signed_address_and_no_other(world: World) -> None:
    [made] = await world.pictures(1)
    found = ok(await world.api.get(f"/v1/generations/{made}"))
    url = found["urls"]["original"]
    nobody = world.client()
    answer = await nobody.get(url)
    assert answer.status_code == 200
    assert len(answer.content) == found["bytes"]
    assert answer.headers["content-type"] == found["mime"]
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-security-policy"].startswith("sandbox")

    path, _, query = url.partition("?")
    signed = dict(part.split("=", 1) for part in query.split("&"))
    flipped = ("0" if signed["s"][0] != "0" else "1") + signed["s"][1:]
    for wrong in (
        path,
        f"{path}?e={signed['e']}",
        f"{path}?e={signed['e']}&s={flipped}",
        f"{path}?e={int(signed['e'], 10) + 1 if signed['e'].isdigit() else 'x'}&s={signed['s']}",
        f"{path.replace(made, str(uuid4()))}?{query}",
        f"{path}/../x?{query}",
    ):
        refused = await nobody.get(wrong)
        assert refused.status_code in (403, 404), wrong
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["cache-control"] == "no-store"
        assert refused.json()["code"] in ("forbidden", "not_found")
    anybody = await world.api.get(path)
    assert anybody.status_code == 403, "a key is no signature"


async def test_an_address_expires(world: World) -> None:
    [made] = await world.pictures(1)
    url = ok(await world.api.get(f"/v1/generations/{made}"))["urls"]["original"]
    context = world.system.context
    signer = MediaSigner(await installation_secret(world.system.db, "media"))
    key = url.partition("?")[0].removeprefix("/media/")
    old = signer.sign(key, context.now() - timedelta(days=30))
    assert (await world.client().get(url)).status_code == 200
    expired = await world.client().get(old)
    assert expired.status_code == 403
    assert "expired" in expired.json()["detail"]


async def test_a_part_of_a_file_is_answered_as_a_part(world: World) -> None:
    [made] = await world.pictures(1)
    found = ok(await world.api.get(f"/v1/generations/{made}"))
    url, size = found["urls"]["original"], found["bytes"]
    nobody = world.client()
    whole = (await nobody.get(url)).content
    for header, part in [("bytes=0-9", whole[:10]), ("bytes=10-", whole[10:]), ("bytes=-7", whole[-7:])]:
        answer = await nobody.get(url, headers={"range": header})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["content-range"].endswith(f"/{size}")
    beyond = await nobody.get(url, headers={"range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert beyond.json()["code"] == "range_not_satisfiable"
    etag = (await nobody.head(url)).headers["etag"]
    assert (await nobody.get(url, headers={"if-none-match": etag})).status_code == 304
    saved = await nobody.get(url + "&download=a%22%0d%0afox.png")
    assert saved.headers["content-disposition"].startswith("attachment")
    assert "\n" not in saved.headers["content-disposition"]


async def test_thumbnails_come_as_an_ordinary_change(world: World) -> None:
    job = await world.submit(small() | {"input": {"prompt": "a fox", "width": 600, "height": 400}})
    [made] = (await world.reaches(job["id"], "completed"))["generations"]

    async def look() -> Json | None:
        found = ok(await world.api.get(f"/v1/generations/{made}"))
        return found if {"256", "1024"} <= set(found["urls"]["thumbs"]) and found["thumbhash"] else None

    found = await until(look, "thumbnails")
    for size, url in found["urls"]["thumbs"].items():
        thumb = await world.client().get(url)
        assert thumb.status_code == 200
        with Image.open(io.BytesIO(thumb.content)) as image:
            assert max(image.size) <= int(size)
    changes = [change for change in await world.changes(0) if change["table"] == "generations"]
    assert changes[0]["op"] == "insert"
    assert set(changes[-1]["row"]["urls"]["thumbs"]) == set(found["urls"]["thumbs"])
    assert changes[-1]["row"]["thumbhash"] == found["thumbhash"]
