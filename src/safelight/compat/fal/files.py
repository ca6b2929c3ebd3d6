"""Storage: files that clients upload to use in an input (providers.md §1.11). They become uploads like any other (M5).

An address to put a file at is its own permission, as a signed URL is: the token in it names project and file. What the
file is called later is said before it is there, so that name is signed too and leads to the upload once that is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Any, Final, cast
from urllib.parse import quote, unquote
from uuid import UUID

import msgspec
import uuid_utils.compat as uuid7s
from starlette.requests import Request
from starlette.responses import Response

from safelight.access.errors import Unauthorized
from safelight.compat.fal.door import PATH, Door
from safelight.compat.fal.errors import Database, detail, flat, invalid
from safelight.compat.fal.wire import Answer, BadRequest, read_object
from safelight.media.uploads import BYTES_MAX, Upload
from safelight.providers.model import Model

TOKEN_TTL: Final = timedelta(hours=1)
TOKEN_MAX: Final = 2_000
NAME_MAX: Final = 100
DEPTH_MAX: Final = 16
"""Of an input that is searched for addresses of ours; deeper ones are refused anyway."""
FOUND_MAX: Final = 100
"""Files of ours in one input: no model takes as many pictures."""
ADDRESS_MAX: Final = 4_000
"""Characters of an address of ours: host, path, and a name of a hundred, each written as up to twelve."""
UPLOAD_S: Final = 300.0
"""Of one upload in all: 50 MB at 170 kB/s. Who drips a byte now and then holds no place for longer."""

_UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OURS: Final = re.compile(
    # The name at the end holds no slash: with one, a long text of repeated addresses would be read over and over.
    rf"https?://[^?#]+{PATH}(?:/p/{_UUID})?/files/(?P<file>{_UUID})/(?P<signature>[A-Za-z0-9_-]{{24}})(?:/[^/?#]*)?"
)


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What a token says. `file` None: any number of files, each with an id of its own."""

    project: UUID
    file: UUID | None
    name: str
    mime: str
    expires: int


class Files:
    """The handlers, and `claimed` for inputs."""

    def __init__(self, door: Door) -> None:
        self._door = door

    # --- announce ---------------------------------------------------------------------------------------------

    async def initiate(self, request: Request) -> Response:
        """`POST /storage/upload/initiate`: where to put the bytes, and what they will be called."""
        _, project = await self._door.writer(request)
        given = await read_object(request)
        name, mime = given.get("file_name"), given.get("content_type")
        for field, value in (("file_name", name), ("content_type", mime)):
            if not isinstance(value, str):
                return invalid(detail(["body", field], "Field required", "missing")).response()
        file: UUID = uuid7s.uuid7()
        ticket = Ticket(project, file, _name(str(name)), str(mime)[:NAME_MAX], self._until())
        upload = f"{self._door.base(request)}/upload/{self._sealed(ticket)}"
        return Answer({"upload_url": upload, "file_url": self._url(request, file, ticket.name)}).response()

    async def multipart(self, request: Request) -> Response:
        """What clients ask for above 90 MB: more than any upload may have here."""
        await self._door.writer(request)
        return flat(413, f"An upload has at most {BYTES_MAX:,} bytes.", "file_too_large").response()

    async def token(self, request: Request) -> Response:
        """`POST /storage/auth/token`, what the Python client asks first: good for uploads, for an hour."""
        _, project = await self._door.writer(request)
        body = {
            "token": self._sealed(Ticket(project, None, "", "", self._until())),
            "token_type": "Bearer",
            "base_url": self._door.base(request),
            "expires_at": (self._door.now() + TOKEN_TTL - timedelta(minutes=5)).isoformat(),
        }
        return Answer(body).response()

    # --- take -------------------------------------------------------------------------------------------------

    async def put(self, request: Request) -> Response:
        """`PUT {upload_url}`. Again is fine: the first whole one counts."""
        ticket = self._opened(request.path_params["token"])
        if ticket is None or ticket.file is None:
            said = "The address to upload to is not one of ours, or its hour is over."
            return flat(403, said, "forbidden").response()
        mime = request.headers.get("content-type") or ticket.mime
        await self._take(request, ticket.project, ticket.file, ticket.name, mime)
        etag = sha256(ticket.file.bytes).hexdigest()[:32]
        body = {"file_url": self._url(request, ticket.file, ticket.name), "partNumber": 1, "etag": etag}
        return Answer(body, 200, {"ETag": f'"{etag}"'}).response()

    async def post(self, request: Request) -> Response:
        """`POST /files/upload`, with the token or a key."""
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        ticket = self._opened(credential.strip()) if scheme.lower() == "bearer" else None
        if ticket is not None and ticket.file is not None:
            raise Unauthorized("This is the address of an upload, not a token.", "foreign")
        project = ticket.project if ticket is not None else (await self._door.writer(request))[1]
        file: UUID = uuid7s.uuid7()
        name = _name(unquote(request.headers.get("x-fal-file-name", "")))
        await self._take(request, project, file, name, request.headers.get("content-type"))
        return Answer({"access_url": self._url(request, file, name)}).response()

    async def _take(self, request: Request, project: UUID, file: UUID, name: str, mime: str | None) -> None:
        """Raises MediaError, or BadRequest for a body of unknown length."""
        length = request.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            raise BadRequest(411, "Say how long the file is: Content-Length.")
        if await self._upload_of(file, project) is not None:
            return
        upload = await self._received(request, project, name, mime, int(length))
        async with self._door.db.connection() as conn:
            await conn.execute(
                "insert into fal_files (id, project_id, upload_id) values ($1, $2, $3) on conflict (id) do nothing",
                file,
                project,
                upload.id,
            )

    async def _received(self, request: Request, project: UUID, name: str, mime: str | None, size: int) -> Upload:
        """The ready upload. One that breaks off is forgotten at once: nobody here goes on with it, and what waits
        unfinished counts against the project."""
        uploads, now = self._door.uploads, self._door.now()
        begun = await uploads.begin(project, filename=name, mime=mime, size=size, sha256=None, now=now)
        limit = asyncio.timeout(UPLOAD_S)
        try:
            async with limit:
                upload = await uploads.receive(begun.id, None, request.stream(), now)
            if upload.state != "ready":
                raise BadRequest(400, "The file ended before its announced length: send it again.")
        except Exception as error:
            with contextlib.suppress(*Database):  # then the hourly sweep does it, in a day
                await uploads.abandon(begun.id)
            if limit.expired():
                raise BadRequest(408, f"The file took longer than {UPLOAD_S:g} s.", "request_timeout") from error
            raise
        return upload

    # --- give -------------------------------------------------------------------------------------------------

    async def get(self, request: Request) -> Response:
        """`GET /files/{id}/{signature}/{name}`: on to the stored file, at an address that is good for a day."""
        file: UUID = request.path_params["file"]
        found = None
        if _same(self._signature(file), request.path_params["signature"]):
            found = await self._upload_of(file)
        if found is None:
            return flat(404, "File not found", "not_found").response()
        return Answer({}, 307, {"Location": self._door.file_url(request, found[1])}).response()

    # --- in inputs --------------------------------------------------------------------------------------------

    async def claimed(
        self, project: UUID, model: Model, given: Mapping[str, Any]
    ) -> tuple[UUID | None, dict[str, Any]]:
        """The input without addresses that only this door understands.

        The start image becomes the job's `start`, whose address is made anew at every sending; the others become
        signed addresses of the stored files, which every provider can fetch without a redirect.
        """
        found: dict[str, tuple[UUID, str]] = {}
        named = ((text, self._file_of(text)) for text in dict.fromkeys(_texts(given, 0)))
        for text, file in islice(((text, file) for text, file in named if file is not None), FOUND_MAX):
            if (upload := await self._upload_of(file, project)) is not None:
                found[text] = upload
        if not found:
            return None, dict(given)
        kept, start = _without_start(model, given, {text: upload for text, (upload, _) in found.items()})
        addresses = {text: self._door.file_url(None, key) for text, (_, key) in found.items()}
        return start, _replaced(kept, addresses, 0)

    def _file_of(self, text: str) -> UUID | None:
        """The file that an address names, if we made it: whatever host we were called by then."""
        match = _OURS.fullmatch(text)
        if match is None:
            return None
        file = UUID(match["file"])
        return file if _same(self._signature(file), match["signature"]) else None

    async def _upload_of(self, file: UUID, project: UUID | None = None) -> tuple[UUID, str] | None:
        """The upload and its storage key."""
        async with self._door.db.connection() as conn:
            row = await conn.fetchrow(
                """
                select u.id, u.storage_key from fal_files f join uploads u on u.id = f.upload_id
                where f.id = $1 and ($2::uuid is null or f.project_id = $2) and u.state = 'ready'
                """,
                file,
                project,
            )
        return (row["id"], row["storage_key"]) if row else None

    # --- signatures -------------------------------------------------------------------------------------------

    def _until(self) -> int:
        return int((self._door.now() + TOKEN_TTL).timestamp())

    def _url(self, request: Request, file: UUID, name: str) -> str:
        origin = self._door.public_url
        base = f"{origin}{PATH}" if origin else self._door.base(request)
        return f"{base}/files/{file}/{self._signature(file)}/{quote(name, safe='')}"

    def _signature(self, file: UUID) -> str:
        return _sign(self._door.secret, b"file " + file.bytes)

    def _sealed(self, ticket: Ticket) -> str:
        body = urlsafe_b64encode(msgspec.json.encode(ticket)).rstrip(b"=")
        return f"{body.decode()}.{_sign(self._door.secret, b'ticket ' + body)}"

    def _opened(self, token: str) -> Ticket | None:
        """None: not made by us, or over."""
        body, _, signature = token.partition(".")
        if len(token) > TOKEN_MAX or not body.isascii():
            return None
        if not _same(_sign(self._door.secret, b"ticket " + body.encode()), signature):
            return None
        ticket = msgspec.json.decode(urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=Ticket)
        return ticket if datetime.fromtimestamp(ticket.expires, UTC) > self._door.now() else None


# --- pure -----------------------------------------------------------------------------------------------------------


def _sign(secret: bytes, message: bytes) -> str:
    return urlsafe_b64encode(hmac.digest(secret, b"safelight-fal\n" + message, sha256)[:18]).decode()


def _same(ours: str, said: str) -> bool:
    return said.isascii() and hmac.compare_digest(ours, said)


def _name(said: str) -> str:
    """The last part of what may be a path, as it may stand in a URL."""
    name = re.sub(r"[\x00-\x1f\x7f/\\]+", "_", said.rpartition("/")[2]).strip(". ")[:NAME_MAX]
    return name.encode("utf-8", "replace").decode() or "file"


def _without_start(
    model: Model, given: Mapping[str, Any], ours: Mapping[str, UUID]
) -> tuple[dict[str, Any], UUID | None]:
    """The input without its start image, where that is a file of ours: alone, or the first of several."""
    kept = dict(given)
    field = model.field(model.start_field) if model.start_field else None
    value: Any = kept.get(field.name) if field is not None else None
    listed: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
    first, rest = (listed[0], listed[1:]) if listed else (None, [])
    if field is None or not isinstance(first, str) or first not in ours:
        return kept, None
    if rest:
        kept[field.name] = rest
    else:
        del kept[field.name]
    return kept, ours[first]


def _texts(value: Any, depth: int) -> list[str]:
    """Every text in an input that could be an address of ours."""
    if depth > DEPTH_MAX:
        return []
    if isinstance(value, str):
        return [value] if len(value) <= ADDRESS_MAX and value.startswith("http") and PATH in value else []
    return [text for each in _inside(value) for text in _texts(each, depth + 1)]


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(cast("Mapping[str, Any]", value).values())
    return cast("list[Any]", value) if isinstance(value, list) else []


def _replaced(value: Any, addresses: Mapping[str, str], depth: int) -> Any:
    if isinstance(value, str):
        return addresses.get(value, value)
    if depth > DEPTH_MAX:
        return value
    if isinstance(value, Mapping):
        return {name: _replaced(each, addresses, depth + 1) for name, each in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [_replaced(each, addresses, depth + 1) for each in cast("list[Any]", value)]
    return value
