"""What a provider adapter promises: submit, inspect, cancel, verify a webhook.

An adapter translates; it decides nothing about the job. It never retries a submit (a second POST is a second
bill, P8), holds no database, and says everything it learnt as one of the small values below, so that the
lifecycle can be a function of them. Adding a provider is one file here and one test file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

JSON = dict[str, Any]
"""A JSON object as decoded."""


FOREVER_S = 10 * 365 * 86_400.0
"""A lifetime that never matters, yet is a number that dates can hold."""


# --- what we send ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """One attempt, ready to be sent. `input` is complete: start image, count and seed are already in it."""

    attempt_id: str
    endpoint: str
    """The provider's own name of the model, e.g. `fal-ai/flux/dev`."""
    kind: str
    """`image`, `video` or `audio`: what the model makes."""
    input: JSON
    n: int
    webhook_url: str | None
    """Where the provider reports (carries attempt id and token); None where it cannot reach us."""


@dataclass(frozen=True, slots=True)
class TaskRef:
    """Everything needed to ask the provider about a task again. Stored with the attempt as JSON."""

    task_id: str
    endpoint: str
    handle: JSON = field(default_factory=dict[str, Any])
    """Provider-private: the URLs of fal's submit answer, the family of KIE's API."""


# --- what comes back ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A result that already lies in our storage, put there and probed by a worker we trust."""

    key: str
    mime: str
    bytes: int
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    thumbhash: str | None = None
    files: JSON | None = None
    """All files made of it, as a generation names them; None: the original alone."""
    sha256: str | None = None
    """In hexadecimal digits."""
    needs_large: bool = False
    """Its larger thumbnails are still to be made."""


@dataclass(frozen=True, slots=True)
class Output:
    """One result: exactly one of `url`, `data`, `path`, `stored` is set.

    `mime` and `meta` are the provider's word, never trusted.
    """

    url: str | None = None
    data: bytes | None = None
    path: Path | None = None
    stored: StoredFile | None = None
    mime: str | None = None
    meta: JSON = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task ended badly (J7). `transient`: a new attempt of the same input may succeed."""

    code: str
    """Stable and ours: `content_policy`, `invalid_input`, `provider_failed`, `provider_timeout`, …"""
    message: str
    """A sentence a person understands."""
    transient: bool = False
    status: int | None = None
    body: Any = None
    """What the provider said, decoded if it was JSON, at most a few kB."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Accepted, in the provider's queue."""

    queue_position: int | None = None
    look_at: datetime | None = None
    """When a look is worth it again, where the provider knows; None: as the schedule says."""


@dataclass(frozen=True, slots=True)
class Running:
    """Being made. `percent` only where the provider says it: never invented (J10)."""

    percent: float | None = None
    message: str | None = None
    logs: Sequence[str] = ()
    look_at: datetime | None = None
    """As of `Waiting`."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Done. Outputs in the provider's order; `cost` is what the provider says it billed, if it does."""

    outputs: Sequence[Output]
    cost: JSON | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    failure: Failure


@dataclass(frozen=True, slots=True)
class Canceled:
    """The provider says it stopped because we asked."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Whoever was making it has died or fallen silent: nothing of this task will be taken any more."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Missing:
    """The provider does not know this task (never accepted, expired or removed)."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The provider answered in words we do not know: no change, never a failure (providers.md §7.1)."""

    said: str


Observation = Waiting | Running | Succeeded | Failed | Canceled | Lost | Missing | Unchanged


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the task and gave it an id."""

    ref: TaskRef
    observation: Observation | None = None
    """Set where the answer already says more, e.g. an inline result."""


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """`requested`: watch for the end; `too_late`: it had ended; `unsupported`: nothing was asked."""

    outcome: str


@dataclass(frozen=True, slots=True)
class WebhookNote:
    """A webhook that proved itself. A hint (`observation is None`) unless its signature covers the body."""

    event_key: str
    """Unique per provider event: a replay or a double carries the same key."""
    task_id: str | None
    observation: Observation | None = None


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """The raw request: signatures are over bytes, so nothing is parsed before `verify_webhook`."""

    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    received_at: datetime


# --- errors ---------------------------------------------------------------------------------------------------


class ProviderError(Exception):
    """Base. `failure` is what the job will show if this is its end."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


class Refused(ProviderError):
    """Certainly not accepted, and the same request may be sent again after `retry_after_s` (429, not connected)."""

    def __init__(self, failure: Failure, retry_after_s: float | None = None) -> None:
        super().__init__(failure)
        self.retry_after_s = retry_after_s


class Rejected(ProviderError):
    """Certainly not accepted, and the same request will not be (400, 422, content policy)."""


class AccountProblem(ProviderError):
    """Our account at the provider (401, 402, 403): the operator must act; nothing was accepted."""


class Ambiguous(ProviderError):
    """Nobody knows whether the provider accepted: never send again, look for it (P8)."""


class Transient(ProviderError):
    """A read (inspect, cancel) did not get through: ask again later. Never raised by `submit`."""

    def __init__(self, failure: Failure, retry_after_s: float | None = None) -> None:
        super().__init__(failure)
        self.retry_after_s = retry_after_s


class WebhookForged(Exception):
    """Signature missing, wrong or stale: 401, nothing is stored."""


# --- the interface --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the lifecycle must know about a provider. Data, so that no code asks for a provider's name."""

    cancel: bool
    webhooks: bool
    inline: bool = False
    """`submit` itself makes the result on this machine, is free of outside cost and may be run again (local)."""
    lookup: bool = False
    """A lost submit can be found again by `find`."""
    inspect: bool = True
    """It can be asked how a task is. Where not, a look is worth nothing before its webhook or the deadline."""
    result_lifetime_s: float = 3600.0
    """Shortest time a finished result stays readable: the reconciler looks well inside it."""
    concurrency: int = 20
    """Tasks unfinished at the provider at once, per installation, unless configured."""
    rate_per_s: float | None = None
    """Requests (submit and look) the provider allows per second; None = unlimited."""
    first_look_s: float = 3.0
    """First look at a task whose model has no history yet and that has no webhook."""


ProgressSink = Callable[[Running], Awaitable[None]]


class Provider(Protocol):
    """One provider. All methods are safe to call concurrently; none touches the database."""

    name: str
    capabilities: Capabilities
    disabled: str | None
    """Why it cannot be used in this installation, in words for the operator; None = ready."""

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        """Send the attempt, exactly one POST.

        Raises Refused, Rejected, AccountProblem or Ambiguous. `progress` is for providers that work inline.
        """
        ...

    async def inspect(self, ref: TaskRef) -> Observation:
        """Read the truth. Raises Transient or AccountProblem; may be repeated freely."""
        ...

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        """Another URL of the same result, where the first is refused or expired; None = there is none.

        Raises Transient or AccountProblem.
        """
        ...

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        """Look for a task whose submit answer was lost; None = not found (yet). Only if `lookup`."""
        ...

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        """Ask the provider to stop. Raises Transient or AccountProblem."""
        ...

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        """Prove it by signature and freshness.

        Raises WebhookForged, or Transient where the proof cannot be had just now (the provider's keys are out of
        reach): answer 503, so that the provider delivers it again.
        """
        ...

    async def close(self) -> None: ...
