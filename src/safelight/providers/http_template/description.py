"""What a provider's file may say: its form, and nothing of what is done with it (pure).

The fields are explained for their users in docs/how-to/add-a-provider.md; `reading` checks that they make sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

Word = str | int | bool
"""How a provider names a state: most say it in a word, some by a number."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the account's key is, and the header that carries it. Keys never stand in the file."""

    env: str
    header: str = "Authorization"
    format: str = "Bearer {key}"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of the provider's limits; the operator's settings go before them."""

    concurrency: int = 20
    rate_per_s: float | None = None
    first_look_s: float = 3.0
    result_lifetime_s: float = 3600.0
    read_s: float = 30.0
    """Silence after which an answer counts as lost."""


class Submit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    path: str
    method: str = "POST"
    input_at: str | None = None
    """Below which name the model's input goes; absent: it is the body."""
    add: Mapping[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Put into the body beside the input, and not the caller's to change."""
    task_id: str = "id"
    keep: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """Selected from the answer for later paths, e.g. `status_url`."""


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    path: str
    method: str = "GET"
    state: str
    waiting: tuple[Word, ...] = ()
    running: tuple[Word, ...] = ()
    succeeded: tuple[Word, ...]
    failed: tuple[Word, ...] = ()
    canceled: tuple[Word, ...] = ()
    percent: str | None = None
    percent_of: float = 100.0
    """What `percent` says when all is done: 100 or 1."""
    queue_position: str | None = None
    message: str | None = None
    missing_http: tuple[int, ...] = (404,)


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the media are: in the status answer, or with `path` in an answer of their own."""

    path: str | None = None
    method: str = "GET"
    urls: str | None = None
    """Selects a URL, a `data:` URI, or a list of them."""
    base64: str | None = None
    mime: str | None = None
    """Of what `base64` selects."""
    cost: str | None = None


class FailureWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a failed task says why."""

    code: str | None = None
    message: str | None = None


class ErrorRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The first rule that fits decides. All that is given must fit: HTTP status, words, condition."""

    code: str
    """Ours, one of `providers.failures.CODES`."""
    http: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    """Of the failure's code: equal, or with a `*` at the end, beginning so."""
    when: str | None = None
    """A condition on the answer."""
    transient: bool | None = None
    not_accepted: bool = False
    """A refusal with this (5xx, 408) certainly made no task, so that it may be sent again."""


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    path: str
    method: str = "POST"
    look_first: bool = False
    """Where the same call would delete a finished task's result."""


class Find(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A list of recent tasks, in which a lost submit is found by its attempt's id."""

    path: str
    items: str
    mark: str
    """Selects, in one item, a text in which our attempt's id stands: usually the webhook's URL."""
    task_id: str = "id"


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the provider proves its webhooks. `none`: only by our secret URL, which every webhook carries."""

    scheme: str
    secret_env: str | None = None
    task_id: str | None = None
    header: str = "x-signature"
    signed: str = "{body}"
    """What is signed, of `{id}`, `{timestamp}`, `{body}`."""
    encoding: str = "hex"
    prefix: str = ""
    id_header: str | None = None
    timestamp_header: str | None = None
    tolerance_s: int = 300


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file."""

    name: str
    api: str
    title: str | None = None
    api_env: str | None = None
    """An environment variable that names another address, e.g. a proxy's."""
    key: Key | None = None
    headers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    limits: Limits = msgspec.field(default_factory=Limits)
    submit: Submit
    status: Status
    result: Result
    failure: FailureWords = msgspec.field(default_factory=FailureWords)
    error: tuple[ErrorRule, ...] = ()
    cancel: Cancel | None = None
    find: Find | None = None
    webhook: Webhook | None = None
    model: tuple[Any, ...] = ()
    """The provider's models, as in a model file; their `routes` may be left out for an `endpoint`."""
