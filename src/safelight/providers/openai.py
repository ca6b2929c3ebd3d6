"""OpenAI's images (providers.md §4.1): the submit is the whole exchange, and its answer the result.

There is no id, no second look, no cancel and no key that makes a repetition harmless. So it is one POST, held open
for minutes; its result is on our disk before anybody hears of it (`openai_spool`), and an answer that is lost stays
unknown until policy settles it (P8).
"""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import structlog

from safelight.providers.base import (
    FOREVER_S,
    JSON,
    Accepted,
    AccountProblem,
    Ambiguous,
    CancelAnswer,
    Capabilities,
    Failed,
    Missing,
    Observation,
    ProgressSink,
    Refused,
    Rejected,
    Running,
    SubmitRequest,
    TaskRef,
    WebhookForged,
    WebhookNote,
    WebhookRequest,
)
from safelight.providers.comfyui import Bring, InputUnreadable
from safelight.providers.failures import failure
from safelight.providers.loose_json import as_list, as_object, as_text
from safelight.providers.openai_answers import EndedBadly, cost_of, read_images, to_error, to_stream_error
from safelight.providers.openai_http import READ_S, Call, OpenAIApi, Picture, Reply
from safelight.providers.openai_spool import Made, Spool

log: Final = structlog.get_logger("providers.openai")

CAPABILITIES: Final = Capabilities(
    cancel=False,
    webhooks=False,
    lookup=True,  # in the spool: what arrived before its worker died
    result_lifetime_s=FOREVER_S,
    concurrency=5,  # the images a minute of a new account, and each holds its answer in memory for a moment
    first_look_s=0.5,
)
IMAGES_MAX: Final = 16
"""Pictures one edit takes."""
PICTURE_BYTES_MAX: Final = 50_000_000
PICTURE_FIELDS: Final = ("image", "images", "mask")
OURS: Final = frozenset({*PICTURE_FIELDS, "model", "n", "stream", "response_format"})
EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAISettings:
    key: str = field(repr=False)
    spool: Path
    """Folder for results between their arrival and their place in the library."""
    api_url: str = "https://api.openai.com/v1"
    organization: str | None = None
    project: str | None = None
    bring: Bring | None = None
    """Puts a start image into a file; None = only `data:` URIs can be edited."""


class OpenAIProvider:
    """Implements `Provider`."""

    name = "openai"
    disabled: str | None = None

    def __init__(self, settings: OpenAISettings, capabilities: Capabilities = CAPABILITIES) -> None:
        self.capabilities = capabilities
        self._url = settings.api_url.rstrip("/")
        self._bring = settings.bring
        self._spool = Spool(settings.spool)
        headers = {"authorization": f"Bearer {settings.key}"}
        if settings.organization:
            headers["openai-organization"] = settings.organization
        if settings.project:
            headers["openai-project"] = settings.project
        self._api = OpenAIApi(headers, base_urls=(settings.api_url,), read_s=READ_S)

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        call = await self._call(request)
        ref = TaskRef(request.attempt_id, request.endpoint, {"kind": request.kind})
        try:
            async with self._api.call(self._url, call, request_id=request.attempt_id) as reply:
                answer, made = await _read(reply, progress)
        except EndedBadly as ended:
            await self._note_failure(request.attempt_id, ended)
            return Accepted(ref, Failed(ended.failure))
        except AccountProblem as problem:
            log.error("openai.account", code=problem.failure.code, said=problem.failure.body)
            raise AccountProblem(failure(problem.failure.code, status=problem.failure.status)) from problem
        try:
            await self._spool.keep(
                request.attempt_id, made, cost_of(answer, reply.response.headers.get("x-request-id"))
            )
        except OSError as error:
            # Paid for, and nowhere to put it: the disk is the operator's business, the job's end is policy's.
            log.exception("openai.spool_failed", attempt=request.attempt_id)
            raise Ambiguous(failure("submit_unknown", "the result could not be kept")) from error
        # Without the result: the next look reads it from the spool, in this process or whoever comes after it.
        return Accepted(ref)

    async def inspect(self, ref: TaskRef) -> Observation:
        """What the spool has. Missing where the result never arrived here, or its time is over."""
        return await self._spool.find(ref.task_id) or Missing()

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        return None

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        """Whether the answer had arrived before its worker died."""
        known = await self._spool.find(attempt_id)
        return None if known is None else TaskRef(attempt_id, endpoint)

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        return CancelAnswer("unsupported")

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        raise WebhookForged("OpenAI's images send no webhooks")

    async def close(self) -> None:
        await self._api.close()

    # --- what is sent ---------------------------------------------------------------------------------------------

    async def _call(self, request: SubmitRequest) -> Call:
        """Raises Rejected."""
        given = request.input
        fields: JSON = {name: value for name, value in given.items() if name not in OURS and value is not None}
        fields |= {"model": request.endpoint, "n": given.get("n", request.n)}
        if wants_previews(fields):
            fields["stream"] = True
        else:
            fields.pop("partial_images", None)
        urls = picture_urls(given)
        if not urls:
            return Call("/images/generations", fields)
        fields.pop("moderation", None)  # generations only
        pictures = await asyncio.gather(*(self._picture(name, index, url) for index, (name, url) in enumerate(urls)))
        return Call("/images/edits", fields, pictures)

    async def _picture(self, name: str, index: int, url: str) -> tuple[str, Picture]:
        try:
            data, mime = data_url(url) if url.startswith("data:") else await self._brought(url)
        except InputUnreadable as error:
            why = failure("input_unreachable", str(error))
            raise (Refused(why) if error.may_repeat else Rejected(why)) from error
        if mime not in EXTENSIONS or not 0 < len(data) <= PICTURE_BYTES_MAX:
            raise Rejected(failure("invalid_input", "a start image is a PNG, JPEG or WebP of at most 50 MB"))
        return name, Picture(f"{index}.{EXTENSIONS[mime]}", data, mime)

    async def _brought(self, url: str) -> tuple[bytes, str]:
        """Bytes and type of the picture at a URL. Raises InputUnreadable."""
        if self._bring is None:
            raise InputUnreadable("This installation reads no start images.", may_repeat=False)
        with tempfile.TemporaryDirectory(prefix="safelight-openai-") as folder:
            path = Path(folder, "picture")
            mime = await self._bring(url, path)
            return await asyncio.to_thread(_read_file, path), mime

    async def _note_failure(self, attempt_id: str, ended: EndedBadly) -> None:
        try:
            await self._spool.keep_failure(attempt_id, ended.failure)
        except OSError:
            log.exception("openai.spool_failed", attempt=attempt_id)


def _read_file(path: Path) -> bytes:
    """One byte more than may be is enough to see that it is too large."""
    with path.open("rb") as file:
        return file.read(PICTURE_BYTES_MAX + 1)


async def _read(reply: Reply, progress: ProgressSink) -> tuple[Mapping[str, Any], Sequence[Made]]:
    """The answer and its pictures. Raises EndedBadly or a ProviderError."""
    if not 200 <= reply.status < 300 or not reply.is_stream:
        answer = await reply.read()
        if 300 <= answer.status < 400:
            raise AccountProblem(failure("provider_misconfigured", "it answers with a redirect", status=answer.status))
        if not answer.ok:
            raise to_error(answer)
        if not isinstance(answer.data, dict):
            raise Ambiguous(failure("submit_unknown", "the answer cannot be read", status=answer.status))
        return answer.object, read_images(answer.object)
    await _tell(progress, Running(message="started"))
    previews = 0
    async for event in reply.events():
        kind = str(event.get("type", ""))
        if kind.endswith(".partial_image"):
            previews += 1
            await _tell(progress, Running(message=f"preview {previews}"))
        elif kind.endswith(".completed"):
            return event, read_images(event)
        elif error := as_object(event.get("error")):
            raise to_stream_error(error)
    raise Ambiguous(failure("submit_unknown", "the stream ended before the picture"))


async def _tell(progress: ProgressSink, said: Running) -> None:
    try:
        await progress(said)
    except Exception:
        # Whoever could not be told looks again later; the picture is worth more than its progress.
        log.warning("openai.progress_lost", exc_info=True)


def wants_previews(fields: Mapping[str, Any]) -> bool:
    """Previews come by stream, and a stream carries one picture."""
    count = fields.get("partial_images")
    return isinstance(count, int) and not isinstance(count, bool) and count > 0 and fields.get("n") in (None, 1)


def picture_urls(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Form field and URL of each picture to edit, and of the mask. Raises Rejected."""
    found: list[tuple[str, str]] = []
    for name in PICTURE_FIELDS:
        value = given.get(name)
        listed: list[object] = as_list(value)
        for each in listed if value == listed else [value]:
            if each is None:
                continue
            url = as_text(each, 20_000_000)
            if url is None:
                raise Rejected(failure("invalid_input", f"{name} is the URL of a picture"))
            found.append(("mask" if name == "mask" else "image[]", url))
    if len(found) > IMAGES_MAX + 1:
        raise Rejected(failure("invalid_input", f"an edit takes at most {IMAGES_MAX} pictures"))
    if found and found[0][0] == "mask":
        raise Rejected(failure("invalid_input", "a mask needs a picture"))
    return found


def data_url(url: str) -> tuple[bytes, str]:
    """Bytes and type of a `data:` URI. Raises InputUnreadable."""
    head, comma, body = url[5:].partition(",")
    mime, *flags = head.split(";")
    try:
        data = base64.b64decode("".join(body.split()), validate=True) if "base64" in flags else unquote_to_bytes(body)
    except ValueError as error:
        raise InputUnreadable("Its data: URI is malformed.", may_repeat=False) from error
    if not comma or not data:
        raise InputUnreadable("Its data: URI is empty.", may_repeat=False)
    return data, mime.strip().lower()
