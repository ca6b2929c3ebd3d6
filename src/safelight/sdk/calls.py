"""Every request that the client makes, written once (api.md). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import uuid_utils

from safelight.sdk.call import Call, Repeat
from safelight.sdk.resources import (
    ChangePage,
    Generation,
    JobInfo,
    Key,
    Model,
    Page,
    Project,
    Quote,
    Trace,
    Upload,
    Wallet,
)

Id = UUID | str


def new_id() -> UUID:
    """A time-ordered id (UUIDv7), for a job before it exists."""
    return UUID(bytes=uuid_utils.uuid7().bytes)


def projects(limit: int | None = None, cursor: str | None = None) -> Call[Page[Project]]:
    return Call("GET", "/v1/projects", Page[Project], {"limit": limit, "cursor": cursor})


def create_project(name: str) -> Call[Project]:
    return Call("POST", "/v1/projects", Project, body={"name": name}, repeat=Repeat.UNSENT)


def models() -> Call[Page[Model]]:
    return Call("GET", "/v1/models", Page[Model])


def request(
    model: str | None,
    input: Mapping[str, Any] | None,
    *,
    id: Id | None,
    n: int,
    target: Mapping[str, Any] | None,
    template: str | None,
    variables: Mapping[str, str] | None,
    start: Id | None,
    provider: str | None,
    priority: int | None,
    deadline_s: float | None,
    tags: Sequence[str],
    metadata: Mapping[str, Any] | None,
    webhook_url: str | None,
) -> dict[str, Any]:
    """The body of submit and quote. What was not given is left out, so that the server's defaults hold."""
    body: dict[str, Any] = {
        "id": id,
        "model": model,
        "input": input,
        "n": n if n != 1 else None,
        "target": target,
        "template": template,
        "variables": variables,
        "start": start,
        "provider": provider,
        "priority": priority,
        "deadline_s": deadline_s,
        "tags": list(tags) or None,
        "metadata": metadata,
        "webhook_url": webhook_url,
    }
    return {name: value for name, value in body.items() if value is not None}


def submit(project: Id, body: Mapping[str, Any]) -> Call[JobInfo]:
    """The body carries the job's id, so the same submit sent twice is one job (J2)."""
    assert body.get("id"), "a submit without an id cannot be repeated"
    return Call("POST", f"/v1/projects/{project}/jobs", JobInfo, body=body)


def quote(project: Id, body: Mapping[str, Any]) -> Call[Quote]:
    return Call("POST", f"/v1/projects/{project}/quote", Quote, body=body)


def get_job(job: Id) -> Call[JobInfo]:
    return Call("GET", f"/v1/jobs/{job}", JobInfo)


def look_at_job(job: Id) -> Call[JobInfo]:
    """As `get_job`; a large input does not come along at every look."""
    return Call("GET", f"/v1/jobs/{job}", JobInfo, {"leave_out": "input"})


def list_jobs(
    project: Id,
    *,
    status: Sequence[str] = (),
    stage: Sequence[str] = (),
    tag: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[Page[JobInfo]]:
    params = {
        "status": list(status) or None,
        "stage": list(stage) or None,
        "tag": tag,
        "limit": limit,
        "cursor": cursor,
    }
    return Call("GET", f"/v1/projects/{project}/jobs", Page[JobInfo], params)


def count_jobs(project: Id) -> Call[dict[str, Any]]:
    return Call("GET", f"/v1/projects/{project}/jobs/counts", dict[str, Any])


def cancel_job(job: Id) -> Call[JobInfo]:
    return Call("POST", f"/v1/jobs/{job}/cancel", JobInfo)


def retry_job(job: Id) -> Call[JobInfo]:
    """Not repeated blindly: a second one would be a second attempt."""
    return Call("POST", f"/v1/jobs/{job}/retry", JobInfo, repeat=Repeat.UNSENT)


def trace_job(job: Id) -> Call[Trace]:
    return Call("GET", f"/v1/jobs/{job}/trace", Trace)


def job_events(job: Id) -> Call[None]:
    return Call("GET", f"/v1/jobs/{job}/events", type(None))


def list_generations(
    project: Id,
    *,
    kind: str | None = None,
    starred: bool | None = None,
    shot_id: Id | None = None,
    q: str | None = None,
    model: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[Page[Generation]]:
    params = {
        "kind": kind,
        "starred": starred,
        "shot_id": shot_id,
        "q": q,
        "model": model,
        "limit": limit,
        "cursor": cursor,
    }
    return Call("GET", f"/v1/projects/{project}/generations", Page[Generation], params)


def generations_by_ids(project: Id, ids: Sequence[Id]) -> Call[Page[Generation]]:
    body = {"ids": [str(each) for each in ids]}
    return Call("POST", f"/v1/projects/{project}/generations/by-ids", Page[Generation], body=body)


def get_generation(generation: Id) -> Call[Generation]:
    return Call("GET", f"/v1/generations/{generation}", Generation)


def star_generation(generation: Id, *, is_starred: bool) -> Call[Generation]:
    return Call("PATCH", f"/v1/generations/{generation}", Generation, body={"starred": is_starred})


def delete_generation(generation: Id) -> Call[None]:
    return Call("DELETE", f"/v1/generations/{generation}", type(None))


def restore_generation(generation: Id) -> Call[Generation]:
    return Call("POST", f"/v1/generations/{generation}/restore", Generation)


def begin_upload(project: Id, *, size: int, sha256: str, filename: str, mime: str | None) -> Call[Upload]:
    """Known bytes need not be sent: the answer is the upload that has them (M5)."""
    body = {"bytes": size, "sha256": sha256, "filename": filename}
    return Call(
        "POST", f"/v1/projects/{project}/uploads", Upload, body=body if mime is None else {**body, "mime": mime}
    )


def send_part(upload: Id, offset: int, part: bytes) -> Call[Upload]:
    """Not repeated blindly: what arrived of it decides where to go on."""
    headers = {"Upload-Offset": str(offset)}
    path = f"/v1/uploads/{upload}/content"
    return Call("PUT", path, Upload, body=part, headers=headers, repeat=Repeat.UNSENT)


def get_upload(upload: Id) -> Call[Upload]:
    return Call("GET", f"/v1/uploads/{upload}", Upload)


def wallet(project: Id) -> Call[Wallet]:
    return Call("GET", f"/v1/projects/{project}/credits", Wallet)


def grant(project: Id, amount: int, *, key: str, note: str) -> Call[Wallet]:
    """`key` is the grant's own id: sent again, it grants once."""
    body = {"amount": amount, "key": key, "note": note}
    return Call("POST", f"/v1/projects/{project}/credits/grants", Wallet, body=body)


def create_key(project: Id, kind: str, name: str) -> Call[Key]:
    body = {"kind": kind, "name": name}
    return Call("POST", f"/v1/projects/{project}/keys", Key, body=body, repeat=Repeat.UNSENT)


def list_keys(project: Id) -> Call[Page[Key]]:
    return Call("GET", f"/v1/projects/{project}/keys", Page[Key])


def revoke_key(project: Id, key: Id) -> Call[None]:
    return Call("DELETE", f"/v1/projects/{project}/keys/{key}", type(None))


def changes(project: Id, *, after: int, limit: int, epoch: str | None = None, wait_s: int = 0) -> Call[ChangePage]:
    params = {"epoch": epoch, "after": after, "limit": limit, "wait": wait_s}
    return Call("GET", f"/v1/projects/{project}/changes", ChangePage, params)


def change_stream(project: Id, last_event_id: str) -> Call[None]:
    headers = {"Last-Event-ID": last_event_id}
    return Call("GET", f"/v1/projects/{project}/changes/stream", type(None), headers=headers)
