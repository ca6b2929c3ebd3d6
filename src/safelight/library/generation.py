"""Generations: how one looks to the outside, and how they are listed (U2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from safelight.db.pool import Conn, Row
from safelight.library import checked
from safelight.library.errors import invalid, not_found
from safelight.library.page import InOrder, Newest, Page, checked_limit, decode, head, instant, page

MediaUrl = Callable[[str], str]
"""Storage key -> signed address (M3)."""

KINDS: Final = ("image", "video", "audio")
QUERY_LENGTH_MAX: Final = 200
QUERY_WORDS_MAX: Final = 16
"""Beyond that a search only gets slower."""
BY_IDS_MAX: Final = 200
"""As a page."""

_COLUMNS: Final[Mapping[str, str]] = {
    # resource field: column
    "id": "id", "project_id": "project_id", "job_id": "job_id", "output_index": "output_index", "kind": "kind",
    "mime": "mime", "width": "width", "height": "height", "duration_s": "duration_s", "bytes": "bytes",
    "thumbhash": "thumbhash", "urls": "files", "starred": "starred", "shots": "shots", "prompt": "prompt",
    "model": "model", "created_at": "created_at", "deleted_at": "deleted_at",
}  # fmt: skip

_WORDS: Final = "to_tsvector('simple', translate(coalesce(g.prompt, '') || ' ' || g.model, '/-_.:@', '      '))"
"""What a search looks through. Without `translate`, PostgreSQL's parser takes `google/nano-banana` for one path."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list is narrowed to; None = not narrowed. Within a shot the order is the shot's, else newest first."""

    kind: str | None = None
    starred: bool | None = None
    shot_id: UUID | None = None
    q: str | None = None
    """Words of the prompt or model; each may be a beginning."""
    model: str | None = None


def fields_of(names: str | None) -> frozenset[str] | None:
    """`?fields=id,width`: which fields are wanted (the id always is). Raises LibraryError `invalid_input`."""
    if names is None:
        return None
    wanted = frozenset(name.strip() for name in names.split(","))
    unknown = sorted(wanted - _COLUMNS.keys())
    if unknown:
        raise invalid("fields", f"there is no field {', '.join(unknown[:5])}")
    return wanted | {"id"}


def present_generation(row: Row, media_url: MediaUrl, fields: Collection[str] | None = None) -> dict[str, Any]:
    """The API's resource of a row, be it from the table or from the change log. Pure."""
    wanted = _COLUMNS if fields is None else fields
    return {field: _VALUES.get(field, _plain(field))(row, media_url) for field in _COLUMNS if field in wanted}


def _plain(field: str) -> Callable[[Row, MediaUrl], Any]:
    return lambda row, _: row[field]


def _urls(row: Row, media_url: MediaUrl) -> dict[str, Any]:
    files = row["files"]
    poster = files.get("poster")
    urls: dict[str, Any] = {
        "original": media_url(files["original"]),
        "poster": media_url(poster) if poster else None,
        "thumbs": {size: media_url(key) for size, key in files.get("thumbs", {}).items()},
    }
    if avif := files.get("avif"):
        urls["avif"] = {size: media_url(key) for size, key in avif.items()}
    return urls


def _duration(row: Row, _: MediaUrl) -> float | None:
    # A 4-byte float read as binary has digits that its text in the log has not.
    return None if row["duration_s"] is None else round(row["duration_s"], 3)


_VALUES: Final[Mapping[str, Callable[[Row, MediaUrl], Any]]] = {
    "id": lambda row, _: str(row["id"]),
    "project_id": lambda row, _: str(row["project_id"]),
    "job_id": lambda row, _: str(row["job_id"]),
    "urls": _urls,
    "duration_s": _duration,
    "created_at": lambda row, _: instant(row["created_at"]),
    "deleted_at": lambda row, _: instant(row["deleted_at"]),
}


async def get_generation(conn: Conn, generation_id: UUID) -> Row:
    """Also a deleted one. The caller checks that its `project_id` is open to whoever asks. Raises `not_found`."""
    row = await conn.fetchrow("select * from generations where id = $1", generation_id)
    if row is None:
        raise not_found("generation", generation_id)
    return row


async def generations_by_ids(conn: Conn, project_id: UUID, ids: Sequence[UUID]) -> Page:
    """Those of the ids that are in the project, deleted ones too, in the order asked for. `conn` is a snapshot."""
    wanted = checked.ids("ids", ids, BY_IDS_MAX)
    seq = await head(conn, project_id)
    rows = await conn.fetch(
        "select * from generations where project_id = $1 and id = any ($2::uuid[])",
        project_id,
        wanted,
    )
    found = {row["id"]: row for row in rows}
    return Page([found[each] for each in wanted if each in found], None, seq)


async def list_generations(
    conn: Conn,
    project_id: UUID,
    only: Filter = Filter(),
    *,
    limit: int = 50,
    cursor: str | None = None,
    fields: Collection[str] | None = None,
) -> Page:
    """What is not deleted. `conn` is a snapshot (`Database.snapshot`). Raises LibraryError `invalid_input`."""
    checked_limit(limit)
    args: list[Any] = [project_id]
    where = ["g.project_id = $1", "g.deleted_at is null", *_narrowed(only, args)]
    if only.shot_id is None:
        source, order = "generations g", "g.created_at desc, g.id desc"
        extra = ""
        if after := decode(cursor, Newest):
            where.append(f"(g.created_at, g.id) < ({_arg(args, after.created_at)}, {_arg(args, after.id)})")
    else:
        source = "shot_generations s join generations g on g.id = s.generation_id"
        where.append(f"s.shot_id = {_arg(args, only.shot_id)}")
        order, extra = "s.position nulls last, g.created_at desc, g.id desc", ", s.position as position_in_shot"
        if after := decode(cursor, InOrder):
            where.append(_further_in_order(after, args))
    seq = await head(conn, project_id)
    rows = await conn.fetch(
        f"select {_select(fields)}{extra} from {source} where {' and '.join(where)}"  # noqa: S608 - only names of ours
        f" order by {order} limit {limit + 1}",
        *args,
    )
    if only.shot_id is None:
        return page(rows, limit, seq, lambda row: Newest(row["created_at"], row["id"]))
    return page(rows, limit, seq, lambda row: InOrder(row["position_in_shot"], row["created_at"], row["id"]))


def _further_in_order(after: InOrder, args: list[Any]) -> str:
    older = f"(g.created_at, g.id) < ({_arg(args, after.created_at)}, {_arg(args, after.id)})"
    if after.position is None:
        return f"s.position is null and {older}"
    position = _arg(args, after.position)
    return f"(s.position > {position} or s.position is null or (s.position = {position} and {older}))"


def _narrowed(only: Filter, args: list[Any]) -> list[str]:
    where: list[str] = []
    if only.kind is not None:
        if only.kind not in KINDS:
            raise invalid("kind", f"is one of {', '.join(KINDS)}")
        where.append(f"g.kind = {_arg(args, only.kind)}")
    if only.starred is not None:
        where.append("g.starred" if only.starred else "not g.starred")
    if only.model is not None:
        where.append(f"g.model = {_arg(args, checked.text('model', only.model))}")
    if only.q is not None and only.q.strip():
        query = _arg(args, _prefix_query(only.q))
        where.append(f"{_WORDS} @@ to_tsquery('simple', {query})")
    return where


def _prefix_query(q: str) -> str:
    """`red fo` finds "a red fox": every word, each as a beginning. Only punctuation finds nothing."""
    if len(q) > QUERY_LENGTH_MAX:
        raise invalid("q", f"has up to {QUERY_LENGTH_MAX} characters")
    words = re.findall(r"[^\W_]+", q.lower())[:QUERY_WORDS_MAX]
    return " & ".join(f"'{word}':*" for word in words)


def _select(fields: Collection[str] | None) -> str:
    columns = _COLUMNS.values() if fields is None else {"created_at", *(_COLUMNS[field] for field in fields)}
    return ", ".join(f"g.{column}" for column in sorted(columns))


def _arg(args: list[Any], value: Any) -> str:
    args.append(value)
    return f"${len(args)}"
