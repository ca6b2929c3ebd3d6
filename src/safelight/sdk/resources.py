"""What the API answers with, typed (api.md). Fields that a newer server adds are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec

T = TypeVar("T")

ENDS: Final = frozenset({"completed", "failed", "canceled"})


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """As far as the provider says, else learnt from the model's history (J10). None = not known."""

    percent: float | None = None
    queue_position: int | None = None
    eta_s: float | None = None
    message: str | None = None


class JobCredits(msgspec.Struct, frozen=True, kw_only=True):
    quoted: int
    charged: int | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
    retryable: bool = False
    provider: dict[str, Any] | None = None


class JobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it was when the server last said so."""

    id: UUID
    project_id: UUID
    status: str
    stage: str
    model: str
    credits: JobCredits
    created_at: datetime
    provider: str | None = None
    kind: str | None = None
    attempt: int = 0
    input: dict[str, Any] = {}
    n: int = 1
    target: dict[str, Any] | None = None
    progress: Progress = Progress()
    error: Failure | None = None
    generations: list[UUID] = []
    submitted_at: datetime | None = None
    completed_at: datetime | None = None
    deadline_at: datetime | None = None
    priority: int = 0
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    left_out: list[str] = []
    """`input`: it is large, and files in it are cut here. `client.jobs.get(id)` has all of it."""

    @property
    def is_over(self) -> bool:
        return self.status in ENDS


class Urls(msgspec.Struct, frozen=True, kw_only=True):
    """Signed and short-lived: fetch soon, keep the generation's id rather than these."""

    original: str
    poster: str | None = None
    thumbs: dict[str, str] = {}


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One stored result."""

    id: UUID
    project_id: UUID
    job_id: UUID | None = None
    output_index: int = 0
    kind: str = "image"
    mime: str = "application/octet-stream"
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    bytes: int | None = None
    thumbhash: str | None = None
    urls: Urls | None = None
    starred: bool = False
    shots: list[dict[str, Any]] = []
    prompt: str | None = None
    model: str | None = None
    created_at: datetime | None = None
    deleted_at: datetime | None = None


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Where an upload goes on, in bytes."""

    offset: int
    max_chunk: int


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A start image on its way (`pending`, with `upload`) or there (`ready`): its id is a job's `start`."""

    id: UUID
    state: str
    bytes: int
    upload: Parts | None = None
    mime: str | None = None
    width: int | None = None
    height: int | None = None
    url: str | None = None


class Project(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    name: str
    created_at: datetime | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """`fields` describes the input: name, type, default, options."""

    id: str
    name: str = ""
    provider: str | None = None
    kind: str | None = None
    description: str = ""
    price: dict[str, Any] = {}
    max_outputs: int = 1
    fields: list[dict[str, Any]] = []
    eta_s: float | None = None
    enabled: bool = True


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the chain with its time (D1)."""

    step: str
    at: datetime
    attempt: int = 0
    detail: Any = None


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """`said`: in words, how far the chain came and where it stands."""

    job_id: UUID
    stage: str
    steps: list[Step]
    said: str = ""


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """In the smallest unit of credits."""

    balance: int
    held: int
    available: int


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    credits: int


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is the secret itself, there only when it is made."""

    id: UUID
    kind: str
    name: str = ""
    prefix: str = ""
    project_id: UUID | None = None
    created_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    key: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a project's change log: what a row is now (`row`, None if deleted)."""

    seq: int
    at: datetime
    table: str
    op: str
    id: str
    row: dict[str, Any] | None = None
    old: dict[str, Any] | None = None
    keys: list[list[Any]] = []
    origin: str | None = None
    epoch: str = ""

    @property
    def cursor(self) -> str:
        """Where to go on after this one: `client.changes(after=change.cursor)`."""
        return f"{self.epoch}:{self.seq}"


class ChangePage(msgspec.Struct, frozen=True, kw_only=True):
    epoch: str
    head: int
    changes: list[Change] = []


class Page(msgspec.Struct, Generic[T], kw_only=True):
    """`seq`: the change log's position that this answer was read at (S3)."""

    items: list[T]
    next_cursor: str | None = None
    seq: int = 0
