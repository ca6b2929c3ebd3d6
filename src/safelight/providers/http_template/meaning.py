"""What a described provider's answers mean: states, results, failures, by the words of its file (pure)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Final

from safelight.providers.base import (
    JSON,
    AccountProblem,
    Ambiguous,
    Canceled,
    Failed,
    Failure,
    Observation,
    Output,
    ProviderError,
    Refused,
    Rejected,
    Running,
    Succeeded,
    Unchanged,
    Waiting,
)
from safelight.providers.failures import failure
from safelight.providers.http import Answer, is_turned_away
from safelight.providers.http_template.description import ErrorRule, Word
from safelight.providers.http_template.reading import Template
from safelight.providers.loose_json import as_list, as_object, as_text
from safelight.providers.outputs import OUTPUTS_MAX, find_outputs

MESSAGE_MAX: Final = 300
COST_MAX: Final = 1_000
ACCOUNT: Final = frozenset(
    {"provider_key", "provider_balance", "provider_limit", "provider_misconfigured", "provider_disabled"}
)
BUSY: Final = frozenset({"provider_busy", "provider_maintenance", "provider_unavailable", "provider_unreachable"})
REFUSED_FOR_GOOD: Final = frozenset({"content_policy", "invalid_input", "input_unreachable", "provider_refused"})
USUAL: Final = {
    401: "provider_key",
    402: "provider_balance",
    403: "provider_key",
    404: "provider_refused",
    405: "provider_refused",
    429: "provider_busy",
}
"""What an HTTP status means where the file says nothing; other 4xx are the input's fault."""


# --- errors -----------------------------------------------------------------------------------------------------


def submit_error(template: Template, answer: Answer) -> ProviderError:
    """What a submit that gave no task raises. Where it may have made one all the same, that is `Ambiguous` (P8)."""
    rule = rule_for(template, answer.data, status=answer.status)
    if rule is None and is_turned_away(answer):
        why = failure("provider_unavailable", status=503, body=answer.kept_body)
        return Refused(why, answer.retry_after_s())
    code = rule.code if rule is not None else USUAL.get(answer.status, "invalid_input")
    is_lost = answer.status >= 500 or answer.status == 408 or (answer.ok and (rule is None or code in BUSY))
    if is_lost and (rule is None or not rule.not_accepted):
        said = "the answer names no task" if answer.ok else None
        return Ambiguous(failure("submit_unknown", said, status=answer.status, body=answer.kept_body))
    if code in ACCOUNT:
        return AccountProblem(failure(code, status=answer.status))
    why = _failure(template, code, rule, answer)
    if code in BUSY or is_lost:
        return Refused(why, answer.retry_after_s())
    if code in REFUSED_FOR_GOOD:
        return Rejected(why)
    # The making failed and no id was given, so nothing goes on there: a person may try again.
    return Rejected(why)


def task_failure(template: Template, answer: Answer) -> Failure:
    """Why a task ended badly. What no rule knows is not bought again by itself."""
    rule = rule_for(template, answer.data, status=None)
    found = _failure(template, rule.code if rule is not None else "provider_failed", rule, answer)
    return found if rule is not None else Failure(found.code, found.message, False, None, found.body)


def rule_for(template: Template, data: object, *, status: int | None) -> ErrorRule | None:
    """The file's first rule that fits an error answer (`status`) or a failed task (None)."""
    said = _word(template.select("failure.code", data))
    for index, rule in enumerate(template.about.error):
        if rule.http and status not in rule.http:
            continue
        if rule.words and not (said is not None and any(_is_like(said, word) for word in rule.words)):
            continue
        if rule.when is not None and not template.select(f"error[{index}].when", data):
            continue
        return rule
    return None


def _failure(template: Template, code: str, rule: ErrorRule | None, answer: Answer) -> Failure:
    said = template.select("failure.message", answer.data)
    words = said if isinstance(said, str) else None if said is None else json.dumps(said)
    body = answer.kept_body
    return failure(code, words, transient=rule.transient if rule else None, status=answer.status, body=body)


def _is_like(said: str, word: str) -> bool:
    return said.startswith(word[:-1]) if word.endswith("*") else said == word


def _word(value: object) -> str | None:
    if isinstance(value, bool) or value is None:
        return None
    return str(value)[:MESSAGE_MAX] if isinstance(value, str | int | float) else None


# --- states -----------------------------------------------------------------------------------------------------


def state_of(template: Template, data: object) -> str | None:
    """`waiting`, `running`, `succeeded`, `failed`, `canceled`; None for a word the file does not know."""
    said = template.select("status.state", data)
    for state in ("waiting", "running", "succeeded", "failed", "canceled"):
        if any(_is_same(said, word) for word in getattr(template.about.status, state)):
            return state
    return None


def _is_same(said: object, word: Word) -> bool:
    """1 is not true, and "1" is not 1."""
    return type(said) is type(word) and said == word


def going_on(template: Template, state: str | None, answer: Answer) -> Observation:
    """A task that has not succeeded (yet)."""
    match state:
        case "waiting":
            position = template.select("status.queue_position", answer.data)
            known = isinstance(position, int) and not isinstance(position, bool) and position >= 0
            return Waiting(position if known else None)
        case "running":
            said = template.select("status.message", answer.data)
            return Running(_percent(template, answer.data), as_text(said, MESSAGE_MAX))
        case "failed":
            return Failed(task_failure(template, answer))
        case "canceled":
            return Canceled()
        case _:
            return Unchanged(str(template.select("status.state", answer.data) or answer.text)[:200])


def _percent(template: Template, data: object) -> float | None:
    """Only what the provider says, and only where it can be one (J10)."""
    said = template.select("status.percent", data)
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    percent = 100.0 * said / template.about.status.percent_of
    return round(percent, 1) if 0 <= percent <= 100 else None


def succeeded(template: Template, answer: Answer, kind: str) -> Observation:
    """A finished task, read from the answer that holds its result."""
    outputs = _outputs(template, answer.data, kind)
    if not outputs:
        return Failed(failure("no_output", body=answer.kept_body))
    return Succeeded(outputs, _cost(template.select("result.cost", answer.data)))


def _outputs(template: Template, data: object, kind: str) -> Sequence[Output]:
    if template.about.result.urls is not None:
        return find_outputs({"outputs": template.select("result.urls", data)}, kind)
    selected = template.select("result.base64", data)
    outputs: list[Output] = []
    for each in (as_list(selected) or [selected])[:OUTPUTS_MAX]:
        if isinstance(each, str) and each:
            try:
                made = base64.b64decode("".join(each.split()), validate=True)
            except (binascii.Error, ValueError):
                continue
            outputs.append(Output(data=made, mime=template.about.result.mime))
    return outputs


def _cost(said: Any) -> JSON | None:
    """Kept as it was said, if it is small."""
    if isinstance(said, bool) or said is None or len(json.dumps(said, default=str)) > COST_MAX:
        return None
    return dict(as_object(said)) or {"cost": said}
