"""The codes a failure may carry, each with its sentence and whether another try can help (J7).

Adapters map their provider's many words to these few; jobs, SDK and studio know only these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from safelight.providers.base import Failure

DETAIL_MAX = 300
"""Signs of a provider's own words inside our sentence."""


@dataclass(frozen=True, slots=True)
class Code:
    sentence: str
    transient: bool = False
    """A new attempt of the same input may succeed."""


CODES: Final[dict[str, Code]] = {
    # the user's input
    "content_policy": Code("The provider's content policy refused this."),
    "invalid_input": Code("The provider does not accept this input."),
    "input_unreachable": Code("The provider could not read a file the input points to."),
    # the making
    "provider_failed": Code("The provider could not make this.", transient=True),
    "provider_timeout": Code("The provider took too long and gave up.", transient=True),
    "provider_refused": Code("The provider refused this and will again."),
    "no_output": Code("The provider finished without a result."),
    "result_expired": Code("The provider no longer has the result."),
    "result_too_large": Code("The provider's answer is too large to be read."),
    "canceled": Code("The provider stopped this task."),
    # the way there
    "provider_busy": Code("The provider takes no more requests just now.", transient=True),
    "provider_maintenance": Code("The provider is down for maintenance.", transient=True),
    "provider_unavailable": Code("The provider is out of service just now.", transient=True),
    "provider_unreachable": Code("The provider could not be reached.", transient=True),
    "submit_unknown": Code("The provider never answered whether it took this task."),
    # the operator's business: the vendor's own words go to the log, not to the user
    "provider_key": Code("The provider does not accept this installation's key; the operator must look at it."),
    "provider_balance": Code("This installation's account at the provider is empty; the operator must fill it."),
    "provider_limit": Code("This installation's key at the provider has reached its limit."),
    "provider_misconfigured": Code("The provider's address in this installation is wrong."),
    "provider_disabled": Code("This provider is not set up in this installation."),
}


def failure(
    code: str,
    detail: str | None = None,
    *,
    transient: bool | None = None,
    status: int | None = None,
    body: Any = None,
) -> Failure:
    """A Failure of a known code: our sentence, then what the provider said; `transient` overrides the table."""
    known = CODES[code]
    said = " ".join(detail.split()) if detail else ""
    if len(said) > DETAIL_MAX:
        said = said[: DETAIL_MAX - 1] + "…"
    return Failure(
        code=code,
        message=f"{known.sentence[:-1]}: {said}" if said else known.sentence,
        transient=known.transient if transient is None else transient,
        status=status,
        body=body,
    )
