"""One accepted task at an emulated provider: what was asked, how far it is, how it ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast
from urllib.parse import urlsplit

from safelight.emulators.faults import Faults
from safelight.emulators.timeline import Timeline
from safelight.emulators.wanted import Wanted

JSON = dict[str, Any]
TEXT_MAX = 10_000  # characters of one text in a remembered input: the longest prompt a model takes
ITEMS_MAX = 100  # entries of one list or object in it


@dataclass(frozen=True, slots=True)
class MadeFile:
    """One result file, as the answer describes it."""

    url: str
    mime: str
    name: str
    size_bytes: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Ended well. `seed` is the first file's; the others count up from it."""

    files: tuple[MadeFile, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Broken:
    """Ended badly. `reason` is a `type` or `error_type` of the provider's catalogue."""

    reason: str
    field: str = "prompt"
    message: str | None = None
    context: JSON | None = None
    value: Any = None
    user_timeout: bool = False
    """The caller's own start timeout ran out."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Ended because the caller canceled it."""


Outcome = Succeeded | Broken | Stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a submit asked for, read and checked."""

    id: str
    model: str
    input: JSON
    """Without `_emulator`."""
    webhook_url: str | None
    faults: Faults
    public_url: str
    """Where this provider's emulator is reached by whoever asked, e.g. `http://127.0.0.1:9000/fal`."""
    wanted: Wanted | None
    """None: the input is wrong, and the task will end with `complaint`."""
    complaint: Broken | None = None
    start_timeout_s: float | None = None
    extra: JSON = field(default_factory=dict[str, Any])
    """Provider-private."""

    @property
    def prompt(self) -> str:
        return str(self.input.get("prompt") or "")

    @property
    def attempt(self) -> str | None:
        return attempt_of(self.webhook_url) or self.extra.get("attempt")

    @property
    def asked(self) -> str:
        """The same when the same is asked again; a webhook that names its attempt has another token then."""
        return self.attempt or self.webhook_url or self.extra.get("asked") or self.model + self.prompt


@dataclass(slots=True)
class Task:
    """An order that was accepted. `outcome` is None until it ends, and then never changes."""

    order: Order
    timeline: Timeline
    number: int
    outcome: Outcome | None = None
    ended_at: float | None = None
    cancel_asked: bool = False
    rushed: bool = False
    status_reads: int = 0
    result_reads: int = 0
    poked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the task must look up from its work: canceled or rushed."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    notified: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the webhook's first attempt is over (or none is due)."""

    @property
    def id(self) -> str:
        return self.order.id

    @property
    def faults(self) -> Faults:
        return self.order.faults

    def end(self, outcome: Outcome, now: float) -> None:
        assert self.outcome is None, "a task ends once"
        self.outcome = outcome
        self.ended_at = now
        self.ended.set()


def attempt_of(webhook_url: str | None) -> str | None:
    """The attempt's id in `…/hooks/{provider}/{attempt}/{token}`; None for URLs of another form."""
    if webhook_url is None:
        return None
    parts = urlsplit(webhook_url).path.split("/")
    if "hooks" not in parts:
        return None
    after = parts[parts.index("hooks") + 1 :]
    return after[1] if len(after) >= 2 and after[1] else None


def abridge(value: Any) -> Any:
    """`value` without its data: URIs and other long texts: thousands of inputs are remembered."""
    if isinstance(value, str) and len(value) > TEXT_MAX:
        return f"{value[:60]}… ({len(value)} characters)"
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [abridge(each) for each in items[:ITEMS_MAX]]
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {name: abridge(each) for name, each in islice(members.items(), ITEMS_MAX)}
    return value
