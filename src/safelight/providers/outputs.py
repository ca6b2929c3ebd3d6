"""The media in a provider's result, whatever shape the model gave it (pure).

Models name their results differently (`images[]`, `video`, `resultUrls`, …): the usual names of the model's kind
come first, and only where they hold nothing is every file in the answer taken. Inline `data:` URIs become bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from safelight.providers.base import JSON, Output
from safelight.providers.loose_json import as_list, as_object

OUTPUTS_MAX = 32
"""Most results taken from one answer; no model makes more, and a longer list is a mistake or an attack."""
DEPTH_MAX = 8
URL_LENGTH_MAX = 8_192

USUAL_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "image": ("images", "image", "resultUrls", "result_urls", "output", "outputs"),
    "video": ("videos", "video", "resultUrls", "result_urls", "output", "outputs"),
    "audio": ("audio", "audios", "audio_file", "audio_url", "resultUrls", "result_urls", "output", "outputs"),
}
ANY_NAME: Final = tuple(dict.fromkeys(name for names in USUAL_NAMES.values() for name in names))
"""For a task known by its id alone, as from a webhook in place of the submit's answer."""
HINTS: Final = ("width", "height", "file_name", "file_size", "duration")
"""What a file object may say about itself that is worth keeping."""


def find_outputs(result: object, kind: str) -> list[Output]:
    """All media of a result in the provider's order; empty where there is none."""
    named = as_object(result)
    for name in USUAL_NAMES.get(kind, ANY_NAME):
        found = _unique(_walk(named.get(name), DEPTH_MAX, named=True))
        if found:
            return found
    return _unique(_walk(result, DEPTH_MAX, named=False))


def _walk(value: object, depth: int, *, named: bool) -> Iterable[Output]:
    """Files below `value`. A bare string counts only below a usual name: elsewhere it may be anything."""
    if depth == 0:
        return
    if isinstance(value, str):
        if named and (output := _from_url(value, {})) is not None:
            yield output
        return
    for inner in as_list(value):
        yield from _walk(inner, depth - 1, named=named)
    file = as_object(value)
    if isinstance(file.get("url"), str) and (output := _from_url(file["url"], file)) is not None:
        yield output
        return
    for inner in file.values():
        yield from _walk(inner, depth - 1, named=False)


def _from_url(url: str, file: Mapping[str, Any]) -> Output | None:
    said = file.get("content_type")
    mime = said.split(";")[0].strip().lower() if isinstance(said, str) else None
    meta: JSON = {
        name: hint for name in HINTS if isinstance(hint := file.get(name), str | int | float) and len(str(hint)) <= 300
    }
    if url.startswith("data:"):
        return _from_data_url(url, meta)
    if url.startswith(("https://", "http://")) and len(url) <= URL_LENGTH_MAX:
        return Output(url=url, mime=mime, meta=meta)
    return None


def _from_data_url(url: str, meta: JSON) -> Output | None:
    head, comma, body = url[5:].partition(",")
    mime, *flags = head.split(";")
    if not comma:
        return None
    try:
        data = base64.b64decode("".join(body.split()), validate=True) if "base64" in flags else unquote_to_bytes(body)
    except ValueError:  # binascii.Error, and signs beyond ASCII
        return None
    return None if not data else Output(data=data, mime=mime.strip().lower() or None, meta=meta)


def _unique(found: Iterable[Output]) -> list[Output]:
    outputs: list[Output] = []
    seen: set[str] = set()
    for output in found:
        if output.url is not None:
            if output.url in seen:
                continue
            seen.add(output.url)
        outputs.append(output)
        if len(outputs) == OUTPUTS_MAX:
            break
    return outputs
