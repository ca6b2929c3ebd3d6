"""What the door says of a job: submit, status, result (providers.md §1.3-§1.6). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from safelight.compat.fal.app_id import base_of
from safelight.compat.fal.errors import CANCELLED, kind_of, of_canceled, of_failure
from safelight.compat.fal.wire import Answer
from safelight.jobs.lifecycle import TERMINAL, Stage
from safelight.media.store import mime_of

Json = dict[str, Any]
FileUrl = Callable[[str], str]
"""Storage key -> signed absolute address."""

_WAITING: Final = frozenset({Stage.QUEUED, Stage.SUBMITTING, Stage.SUBMITTED})


@dataclass(frozen=True, slots=True)
class Urls:
    """Where a request is asked about."""

    base: str
    """`…/compat/fal`, as the caller reaches it."""
    app: str
    request_id: str

    @property
    def request(self) -> str:
        return f"{self.base}/{quote(base_of(self.app), safe='/')}/requests/{self.request_id}"

    def body(self) -> Json:
        return {
            "response_url": self.request,
            "status_url": f"{self.request}/status",
            "cancel_url": f"{self.request}/cancel",
        }


def has_ended(row: Mapping[str, Any]) -> bool:
    return Stage(row["stage"]) in TERMINAL


def submitted(row: Mapping[str, Any], urls: Urls) -> Json:
    identity = urls.request_id
    head: Json = {"status": "IN_QUEUE", "request_id": identity, "gateway_request_id": identity}
    return {**head, **urls.body(), "queue_position": row.get("queue_position") or 0}


def status(row: Mapping[str, Any], urls: Urls, *, with_logs: bool) -> Answer:
    """`row` as `jobs.reads.job` gives it. There are three states: what failed or was canceled is COMPLETED too."""
    stage = Stage(row["stage"])
    body: Json = {"request_id": urls.request_id, **urls.body()}
    if stage in _WAITING:
        return Answer({"status": "IN_QUEUE", **body, "queue_position": row["queue_position"] or 0}, 202)
    body["logs"] = _logs(row) if with_logs else None
    if stage not in TERMINAL:
        return Answer({"status": "IN_PROGRESS", **body}, 202)
    body = {"status": "COMPLETED", **body}
    match stage:
        case Stage.COMPLETED:
            body["metrics"] = {"inference_time": inference_s(row)}
        case Stage.CANCELED:
            body |= {"error": "Request was cancelled by the client", "error_type": CANCELLED}
        case _:
            body |= {"error": row["error"]["message"], "error_type": kind_of(row["error"])}
    return Answer(body)


def _logs(row: Mapping[str, Any]) -> list[Json]:
    """What the last look at the provider brought. Its own times are not kept: a line's is that of the start."""
    at = row["running_at"] or row["accepted_at"] or row["created_at"]
    lines: Sequence[str] = row["logs"] or ()
    return [{"message": line, "level": "INFO", "source": "USER", "timestamp": _instant(at)} for line in lines]


def inference_s(row: Mapping[str, Any]) -> float:
    began_at = row["accepted_at"] or row["submitted_at"] or row["created_at"]
    return round(max((row["completed_at"] - began_at).total_seconds(), 0.001), 3)


def output(row: Mapping[str, Any], generations: Sequence[Mapping[str, Any]], file_url: FileUrl) -> Answer:
    """What the model answered: its result, or its error with its own status. Only for a job that has ended."""
    match Stage(row["stage"]):
        case Stage.COMPLETED:
            return Answer(result(row, generations, file_url))
        case Stage.CANCELED:
            return of_canceled()
        case _:
            return of_failure(row["error"])


def result(row: Mapping[str, Any], generations: Sequence[Mapping[str, Any]], file_url: FileUrl) -> Json:
    """The result in the shape that fal's models of this kind have.

    Models differ in whether they say one picture as a list or by itself, so a single one is said both ways.
    """
    files = [_file(each, file_url) for each in generations]
    first = files[0] if files else None
    common: Json = {
        "seed": _seed(row, generations),
        "prompt": row["input"].get("prompt"),
        "timings": {"inference": inference_s(row)},
    }
    match row["kind"]:
        case "video":
            return {"video": first, **({"videos": files} if len(files) > 1 else {}), **common}
        case "audio":
            return {"audio": first, **({"audios": files} if len(files) > 1 else {}), **common}
        case _:
            flags = [bool(_meta(each).get("nsfw")) for each in generations]
            return {
                "images": files,
                **({"image": first} if len(files) == 1 else {}),
                "has_nsfw_concepts": flags,
                **common,
            }


def _file(generation: Mapping[str, Any], file_url: FileUrl) -> Json:
    key: str = generation["files"]["original"]
    file: Json = {
        "url": file_url(key),
        "content_type": mime_of(key) or generation["mime"],
        "file_name": f"{generation['id']}.{key.rpartition('.')[2]}",
        "file_size": generation["bytes"],
    }
    if generation["width"] is not None:
        file |= {"width": generation["width"], "height": generation["height"]}
    if generation["duration_s"] is not None:
        file["duration"] = round(generation["duration_s"], 3)
    return file


def _seed(row: Mapping[str, Any], generations: Sequence[Mapping[str, Any]]) -> Any:
    said = next((meta["seed"] for meta in map(_meta, generations) if "seed" in meta), None)
    return row["input"].get("seed") if said is None else said


def _meta(generation: Mapping[str, Any]) -> Json:
    return generation["meta"] or {}


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
