"""The shapes of answers, for OpenAPI. The rooms' pure presenters make them; these say what to expect."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field


class Progress(BaseModel):
    percent: float | None = Field(description="0 to 100, only where the provider says it")
    queue_position: int | None
    eta_s: float | None = Field(description="Seconds probably left, from the model's history")
    message: str | None


class ProviderSaid(BaseModel):
    name: str
    status: int | None
    body: Any


class JobErrorOut(BaseModel):
    code: str
    message: str
    retryable: bool
    provider: ProviderSaid


class JobCredits(BaseModel):
    quoted: int
    charged: int | None


Status = Literal["pending", "processing", "completed", "failed", "canceled"]
StageName = Literal[
    "queued", "submitting", "submitted", "running", "storing", "unknown", "completed", "failed", "canceled", "expired"
]


class Job(BaseModel):
    id: UUID
    project_id: UUID
    status: Status
    stage: StageName
    model: str
    provider: str
    kind: Literal["image", "video", "audio"]
    attempt: int
    input: dict[str, Any]
    n: int
    target: dict[str, Any] | None
    template: str | None
    variables: dict[str, Any] | None
    start: str | None
    priority: int
    progress: Progress
    credits: JobCredits
    error: JobErrorOut | None
    generations: list[UUID]
    created_at: datetime
    submitted_at: datetime | None
    completed_at: datetime | None
    deadline_at: datetime
    cancel_requested_at: datetime | None
    tags: list[str]
    metadata: dict[str, Any]
    left_out: list[Literal["input"]] = Field(
        default_factory=list[Literal["input"]],
        description="`input`: above 64 kB, so files and endless texts in it are cut here; read the job for all of it",
    )


class JobPage(BaseModel):
    items: list[Job]
    next_cursor: str | None


class JobCounts(BaseModel):
    pending: int
    processing: int
    completed: int
    failed: int
    canceled: int


class Quote(BaseModel):
    credits: int


class Attempt(BaseModel):
    number: int
    provider: str
    endpoint: str
    state: Literal["sending", "refused", "unknown", "accepted", "succeeded", "failed", "canceled", "abandoned"]
    task_id: str | None = Field(description="The provider's own name of the task")
    sent_at: datetime
    accepted_at: datetime | None
    ended_at: datetime | None
    stop_asked_at: datetime | None
    late: bool = Field(description="It ended well when the job had gone on without it: not shown, not charged")
    failure: dict[str, Any] | None
    cost: Any = Field(description="What the provider says it billed, where it does")


class Attempts(BaseModel):
    items: list[Attempt]
    next_cursor: str | None = None


class TraceStep(BaseModel):
    step: str
    at: datetime
    attempt: int
    detail: dict[str, Any] | None


class Trace(BaseModel):
    job_id: UUID
    stage: StageName
    steps: list[TraceStep]
    said: str = Field(description="In words: how far the chain came, and where it stands")


class Urls(BaseModel):
    original: str
    poster: str | None
    thumbs: dict[str, str]


class ShotPlace(BaseModel):
    shot_id: UUID
    position: str | None


class Generation(BaseModel):
    id: UUID
    project_id: UUID
    job_id: UUID
    output_index: int
    kind: Literal["image", "video", "audio"]
    mime: str
    width: int | None
    height: int | None
    duration_s: float | None
    bytes: int
    thumbhash: str | None
    urls: Urls
    starred: bool
    shots: list[ShotPlace]
    prompt: str | None
    model: str
    created_at: datetime
    deleted_at: datetime | None


class GenerationPage(BaseModel):
    items: list[dict[str, Any]] = Field(description="Generations; with `fields`, only the named fields and the id")
    next_cursor: str | None


class GenerationBatch(BaseModel):
    items: list[Generation]
    missing: list[UUID]


class Items(BaseModel):
    items: list[dict[str, Any]]
    next_cursor: str | None


class Resource(BaseModel):
    """A shot, node, edge or template."""

    model_config = {"extra": "allow"}
    id: UUID
    project_id: UUID


class Wallet(BaseModel):
    balance: int
    held: int
    available: int


class Project(BaseModel):
    id: UUID
    name: str
    created_at: datetime
    role: Literal["viewer", "editor", "owner", "admin"] = Field(description="What you are in it")


class ProjectPage(BaseModel):
    items: list[Project]
    next_cursor: str | None


class Session(BaseModel):
    project_id: UUID | None
    projects: list[dict[str, Any]]
    user: dict[str, Any]


class Models(BaseModel):
    items: list[dict[str, Any]]
    next_cursor: str | None = None


class Changes(BaseModel):
    epoch: UUID
    head: int
    changes: list[dict[str, Any]]


class Upload(BaseModel):
    model_config = {"extra": "allow"}
    id: UUID
    state: Literal["pending", "ready"]


class Key(BaseModel):
    model_config = {"extra": "allow"}
    id: UUID
    kind: Literal["secret", "publishable"]
    name: str
