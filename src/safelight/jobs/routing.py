"""Which provider makes a job: the model's routes in order, from the one it is at (P6). Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safelight.jobs.breaker import Gate
from safelight.providers.model import Model, Route


@dataclass(frozen=True, slots=True)
class Choice:
    """Where to send now. `is_probe`: only whoever gets its probe may."""

    route: Route
    is_probe: bool = False


def usable(
    model: Model | None, provider: str, endpoint: str, *, is_pinned: bool, is_ready: Callable[[str], bool]
) -> Sequence[Route]:
    """The job's own route first, then those after it in the model's order, then those before it.

    Only the first where the submit named a provider. `is_ready(provider)`: it is there and set up.
    """
    own = Route(provider=provider, endpoint=endpoint)
    if model is None:
        return [own]
    at = [index for index, route in enumerate(model.routes) if (route.provider, route.endpoint) == (provider, endpoint)]
    if not at:
        # The model was changed since: what it names now comes after what the job was given.
        others = list(model.routes)
    else:
        own = model.routes[at[0]]
        others = [*model.routes[at[0] + 1 :], *model.routes[: at[0]]]
    if is_pinned:
        return [own]
    return [own, *(route for route in others if is_ready(route.provider))]


def choose(routes: Sequence[Route], gate: Callable[[Route], Gate]) -> Choice | None:
    """The first that may be asked now; None: all of them are out of service."""
    for route in routes:
        match gate(route):
            case Gate.GO:
                return Choice(route)
            case Gate.PROBE:
                return Choice(route, is_probe=True)
            case Gate.SHUT:
                continue
    return None
