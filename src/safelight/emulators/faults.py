"""Faults on request: what they are called, and which apply to a request (P7, api.md).

A request names its own in the input field `_emulator`; `PUT …/_emulator/faults` sets them for all. The request's
word wins. Random ones come from one seeded generator, so that a run can be repeated.
"""

from __future__ import annotations

from collections import OrderedDict
from random import Random
from typing import Annotated, Any, Literal, cast, get_args

import msgspec

WebhookFault = Literal[
    "lost",
    "late",  # by `late_s`
    "double",  # twice at once, the same bytes
    "forged",  # in place of the true one: a wrong signature and a lie
    "stale",  # in place of the true one: signed an hour ago
    "reordered",  # after that of a later task
    "before_answer",  # before the submit is answered
    "payload_error",  # it went well, but the result must be fetched (fal)
]
SubmitFault = Literal[
    "lose_answer",  # accepted, then the connection drops
    "lose_request",  # the connection drops and nothing was accepted: the caller cannot tell the two apart
    "slow",  # accepted, answered after `slow_s`
    "hang",  # accepted, never answered (the connection drops after a minute)
    "garbage",  # accepted, 200 with a body that is no JSON
    "500_accepted",  # accepted, and yet a 500
    "401",
    "402",
    "404",
    "422",
    "429",
    "455",
    "500",
    "503",
    "503_gateway",  # the gateway's own page: it never got to the provider
]
ResultFault = Literal[
    "expired",  # the file is gone
    "forbidden",  # 403 on the plain URL; KIE's download-url still works
    "truncated",  # a complete answer with half of the file
    "cut",  # the connection drops half-way
    "wrong_type",  # an HTML page that says it is the picture
    "mislabeled",  # the real file, called application/octet-stream
    "huge",  # starts well and does not end
    "slow",  # trickles
    "private_url",  # the result points to a private address
    "redirect_private",  # …or redirects there
    "redirect",  # redirects once, to the real file
    "gone",  # the result JSON itself has expired (fal)
    "504_once",  # the result GET fails once after COMPLETED (fal)
    "data_uri",  # inline instead of a URL
    "none",  # success without any media
]
StatusFault = Literal["unknown", "500", "hang", "404"]
CancelFault = Literal["ignored", "late", "too_late", "missing", "webhook"]

REFUSALS: frozenset[SubmitFault] = frozenset(
    {"lose_request", "401", "402", "404", "422", "429", "455", "500", "503", "503_gateway"}
)
"""Submit faults after which nothing was accepted."""

PRIVATE_URL = "http://169.254.169.254/latest/meta-data/"
REFUSED_TIMES = 2  # a patient client gets through at the third try
STATUS_TIMES = 3
COUNTERS_MAX = 10_000

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
Times = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The faults of one request. All absent = the provider on a good day."""

    webhook: WebhookFault | None = None
    submit: SubmitFault | None = None
    result: ResultFault | None = None
    status: StatusFault | None = None
    cancel: CancelFault | None = None
    fail: str | None = None
    """`content_policy`, `transient`, or any `type` / `error_type` of the provider's error catalogue."""
    latency_s: Seconds | None = None
    queue_s: Seconds | None = None
    """Part of the latency spent in the queue."""
    late_s: Seconds | None = None
    slow_s: Seconds | None = None
    requeue: bool = False
    """The first runner fails: IN_PROGRESS goes back to IN_QUEUE."""
    result_504_once: bool = False
    submit_times: Times = REFUSED_TIMES
    """How often a refusing `submit` fault refuses the same request before it lets it in."""
    status_times: Times = STATUS_TIMES
    """How often a `status` fault is shown before the truth."""
    fail_times: Times | None = None
    """Only so many tasks of the same model and prompt fail; None = each of them."""
    retry_after_s: Seconds | None = 1.0
    """`Retry-After` of a 429; null = none."""


FAULT_NAMES = frozenset(Faults.__struct_fields__)
CHOICES: dict[str, tuple[str, ...]] = {
    "webhook": get_args(WebhookFault),
    "submit": get_args(SubmitFault),
    "result": get_args(ResultFault),
    "status": get_args(StatusFault),
    "cancel": get_args(CancelFault),
}


class FaultError(ValueError):
    """The faults asked for do not exist. The text says which, and what there is."""


def parse_faults(raw: dict[str, Any]) -> Faults:
    """Raises FaultError."""
    for name, choices in CHOICES.items():
        if raw.get(name) is not None and raw[name] not in choices:
            raise FaultError(f"_emulator: {name} is {raw[name]!r}, which is none of {', '.join(choices)}")
    try:
        return msgspec.convert(raw, Faults)
    except msgspec.ValidationError as error:
        raise FaultError(f"_emulator: {error}") from None


class Weighted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of several sets of faults, drawn in proportion to its weight."""

    weight: Annotated[float, msgspec.Meta(ge=0)]
    faults: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class FaultRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Faults for all requests.

    `always` in every request, except that a name in `probability` with a number applies that often; a name in
    `probability` with a map draws one of its values (`{"webhook": {"lost": 0.3, "late": 0.3}}`), the rest of the
    probability being no fault. `weighted` draws one whole set.
    """

    always: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    probability: dict[str, float | dict[str, float]] = msgspec.field(
        default_factory=dict[str, float | dict[str, float]]
    )
    weighted: list[Weighted] = msgspec.field(default_factory=list[Weighted])
    seed: int | None = None

    def draw(self, random: Random) -> dict[str, Any]:
        """The faults of the next request. Draws in a fixed order: the same seed gives the same faults."""
        drawn: dict[str, Any] = {}
        for name, value in sorted(self.always.items()):
            chance = self.probability.get(name, 1.0)
            if isinstance(chance, dict) or random.random() < chance:
                drawn[name] = value
        for name, chances in sorted(self.probability.items()):
            if isinstance(chances, dict):
                point = random.random()
                for value, chance in chances.items():
                    point -= chance
                    if point < 0:
                        drawn[name] = value
                        break
        if self.weighted:
            chosen = random.choices(self.weighted, [each.weight for each in self.weighted])[0]
            drawn.update(chosen.faults)
        return drawn


NO_RULE = FaultRule()


def parse_rule(raw: object) -> FaultRule:
    """A PUT's body: an object of faults, with optional `probability`, `weighted`, `seed`. Raises FaultError."""
    if not isinstance(raw, dict):
        raise FaultError("faults are a JSON object")
    body = cast("dict[str, Any]", raw)
    settings = {name: body[name] for name in ("probability", "weighted", "seed") if name in body}
    always = {name: value for name, value in body.items() if name not in settings}
    try:
        rule = msgspec.convert({**settings, "always": always}, FaultRule)
    except msgspec.ValidationError as error:
        raise FaultError(str(error)) from None
    parse_faults(always)
    for each in rule.weighted:
        parse_faults(each.faults)
    if rule.weighted and sum(each.weight for each in rule.weighted) <= 0:
        raise FaultError("weighted: the weights add up to nothing")
    for name, chance in rule.probability.items():
        if name not in FAULT_NAMES:
            raise FaultError(f"probability: there is no fault {name!r}; there are {sorted(FAULT_NAMES)}")
        if isinstance(chance, dict):
            for value in chance:
                parse_faults({name: value})
            total = sum(chance.values())
        elif name not in always:
            raise FaultError(f"probability: {name!r} needs a value beside it, e.g. {{{name!r}: …}}")
        else:
            total = chance
        if not 0 <= total <= 1.000001:
            raise FaultError(f"probability: {name!r} adds up to {total}, which is not within 0 and 1")
    return rule


class FaultBook:
    """The rule in force and how often each request has been refused. One per provider."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._counts: OrderedDict[str, int] = OrderedDict()
        self.rule = NO_RULE
        self._random = Random(seed)

    def set(self, rule: FaultRule) -> None:
        """From now on; counters and the random order start anew."""
        self.rule = rule
        self._random = Random(self._seed if rule.seed is None else rule.seed)
        self._counts.clear()

    def resolve(self, own: object) -> Faults:
        """The faults of one request, whose own `_emulator` field is `own`. Raises FaultError."""
        drawn = self.rule.draw(self._random)
        if own is None:
            return parse_faults(drawn)
        if not isinstance(own, dict):
            raise FaultError("_emulator: an object is expected")
        return parse_faults({**drawn, **cast("dict[str, Any]", own)})

    def spend(self, key: str, times: int) -> bool:
        """Whether the fault known by `key` still strikes: it does so `times` times."""
        spent = self._counts.pop(key, 0)
        strikes = spent < times
        self._counts[key] = spent + strikes
        while len(self._counts) > COUNTERS_MAX:
            self._counts.popitem(last=False)
        return strikes
