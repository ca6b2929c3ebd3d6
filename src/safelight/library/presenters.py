"""How the library's tables look in the change feed: the same resources as in the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from safelight.db.pool import Row
from safelight.library.canvas import present_edge, present_node
from safelight.library.generation import MediaUrl, present_generation
from safelight.library.shot import present_shot, present_shot_generation

Presenter = Callable[[Row], dict[str, Any]]


def library_presenters(media_url: MediaUrl) -> dict[str, Presenter]:
    """Table -> presenter of its whole rows (not of the partial `old`)."""
    return {
        "generations": lambda row: present_generation(row, media_url),
        "shots": present_shot,
        "shot_generations": present_shot_generation,
        "nodes": present_node,
        "edges": present_edge,
    }
