"""The canonical query keys and the invalidation map: which cached answers a change makes old (F1). Pure.

Keys are not stored in the log but computed when a change is presented, so that a mended map needs no migration
and also holds for entries written before it (docs/decisions/003).
A key is a prefix: `["tasks", P]` stands for every cached list of project P's tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

__all__ = ["FAMILIES", "Key", "keys_for"]

Key = list[str]
Row = Mapping[str, Any]

FAMILIES: Final = (
    "tasks",
    "task-status-counts",
    "unified-generations",
    "shots",
    "unpositioned-count",
    "project-video-counts",
    "nodes",
    "credits",
)


def tasks(project: str) -> Key:
    return ["tasks", project]


def task_status_counts(project: str) -> Key:
    return ["task-status-counts", project]


def project_generations(project: str) -> Key:
    return ["unified-generations", "project", project]


def shot_generations(shot: str) -> Key:
    return ["unified-generations", "shot", shot]


def shots(project: str) -> Key:
    return ["shots", project]


def unpositioned_count(shot: str) -> Key:
    return ["unpositioned-count", shot]


def project_video_counts(project: str) -> Key:
    return ["project-video-counts", project]


def nodes(project: str) -> Key:
    return ["nodes", project]


def credits_(project: str) -> Key:
    return ["credits", project]


def keys_for(table: str, op: str, project: str, row: Row | None, old: Row | None) -> list[Key]:
    """The keys that a change touches, each once, in a stable order; none for a table that no cache holds.

    `row` is the whole row after (None for a delete); `old` the whole row before a delete, or the columns kept
    for an update. A column that is missing counts as "may have changed": too many keys cost a request, one too few
    a stale screen.
    """
    rule = _MAP.get(table)
    if rule is None:
        return []
    found: dict[tuple[str, ...], None] = {}
    for key in rule(op, project, row or {}, old or {}):
        found[tuple(key)] = None
    return [list(key) for key in found]


def _of_job(op: str, project: str, row: Row, old: Row) -> Iterator[Key]:
    yield tasks(project)
    if op != "update" or _changed("status", row, old):
        yield task_status_counts(project)


def _of_generation(op: str, project: str, row: Row, old: Row) -> Iterator[Key]:
    yield project_generations(project)
    comes_or_goes = op != "update" or _changed("deleted_at", row, old)
    for shot in _shots_of(row, old):
        yield shot_generations(shot)
        if comes_or_goes or _changed("shots", row, old):
            yield unpositioned_count(shot)
    if comes_or_goes:
        yield shots(project)  # a shot's card counts its pictures
        if (row or old).get("kind", "video") == "video":
            yield project_video_counts(project)


def _of_shot(op: str, project: str, row: Row, old: Row) -> Iterator[Key]:
    yield shots(project)
    shot = (row or old).get("id")
    if op != "update" and isinstance(shot, str):
        yield shot_generations(shot)
        yield unpositioned_count(shot)
        yield project_video_counts(project)


def _of_shot_generation(op: str, project: str, row: Row, old: Row) -> Iterator[Key]:
    for side in (row, old):
        shot = side.get("shot_id")
        if isinstance(shot, str):
            yield shot_generations(shot)
            yield unpositioned_count(shot)
    yield shots(project)
    yield project_generations(project)  # a generation names the shots it is in
    if op != "update" or _changed("shot_id", row, old):
        yield project_video_counts(project)


def _of_canvas(op: str, project: str, row: Row, old: Row) -> Iterator[Key]:
    yield nodes(project)


def _of_credits(op: str, project: str, row: Row, old: Row) -> Iterator[Key]:
    yield credits_(project)


def _of_project(op: str, project: str, row: Row, old: Row) -> Iterator[Key]:
    if op == "delete":  # nothing that was cached of it is true any more
        yield tasks(project)
        yield task_status_counts(project)
        yield project_generations(project)
        yield shots(project)
        yield project_video_counts(project)
        yield nodes(project)
        yield credits_(project)


_MAP: Final[Mapping[str, Callable[[str, str, Row, Row], Iterator[Key]]]] = {
    "jobs": _of_job,
    "generations": _of_generation,
    "shots": _of_shot,
    "shot_generations": _of_shot_generation,
    "nodes": _of_canvas,
    "edges": _of_canvas,
    "credits": _of_credits,
    "projects": _of_project,
}


def _changed(column: str, row: Row, old: Row) -> bool:
    return column not in old or row.get(column) != old[column]


def _shots_of(*rows: Row) -> list[str]:
    """Ids of the shots that a generation's rows name, before and after."""
    ids: dict[str, None] = {}
    for row in rows:
        listed = row.get("shots")
        for entry in cast("list[Any]", listed) if isinstance(listed, list) else []:
            if isinstance(entry, dict):
                shot = cast("dict[str, Any]", entry).get("shot_id")
                if isinstance(shot, str):
                    ids[shot] = None
    return list(ids)
