"""Templates: a stored model and input with named blanks, `{BRAND}`, filled in at submit (J8)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from safelight.db.pool import Conn, Row, Transaction
from safelight.library import checked
from safelight.library.errors import LibraryError, invalid, not_found
from safelight.library.page import Page, checked_limit, decode, head, instant, page

VARIABLE: Final = re.compile(r"\{([A-Z][A-Z0-9_]{0,63})\}")
"""Capitals only, so that braces in prompts and code stay what they are."""
SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
VALUE_LENGTH_MAX: Final = 10_000
"""Of one variable; models take prompts of a few thousand characters."""
FILLED_BYTES_MAX: Final = 256 * 1024
"""Of the filled input: one blank may stand in a template many times."""

Variables = Mapping[str, Any]
"""Texts, numbers, truth values; what comes as anything else is refused."""
Lookup = Callable[[str], Any]


class _After(msgspec.Struct, frozen=True, array_like=True):
    slug: str


@dataclass(frozen=True, slots=True)
class Template:
    """What `render` needs of a row."""

    model: str
    input: Mapping[str, Any]
    start: str | None = None


@dataclass(frozen=True, slots=True)
class Filled:
    """Ready to be submitted."""

    model: str
    input: dict[str, Any]
    start: str | None


def template_of(row: Row) -> Template:
    return Template(row["model"], row["input"], row["start"])


def variables_of(template: Template) -> list[str]:
    """The names of its blanks, sorted."""
    found: set[str] = set()

    def note(name: str) -> str:
        found.add(name)
        return ""

    _fill({"input": template.input, "start": template.start}, note)
    return sorted(found)


def render(template: Template, variables: Variables) -> Filled:
    """Fill every blank. A text that is nothing but one blank becomes the value itself, number or truth value too.

    What is put in is not looked through for blanks again. Raises LibraryError `invalid_input` whose `errors` name
    each unknown, missing or unusable variable.
    """
    wanted = set(variables_of(template))
    errors = [_error(name, "this template needs it", "missing") for name in sorted(wanted - variables.keys())]
    errors += [
        _error(name[:100], "this template has no such variable", "unexpected")
        for name in sorted(variables.keys() - wanted)
    ]
    for name in sorted(wanted & variables.keys()):
        value: object = variables[name]
        if not isinstance(value, str | int | float):
            errors.append(_error(name, "is a text, a number or a truth value", "type"))
        elif isinstance(value, str) and len(value) > VALUE_LENGTH_MAX:
            errors.append(_error(name, f"has up to {VALUE_LENGTH_MAX} characters", "too_long"))
    checked.data("variables", dict(variables), FILLED_BYTES_MAX)
    if errors:
        said = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in errors[:10])
        raise LibraryError("invalid_input", f"variables do not fit the template: {said}", errors)
    _check_filled_size(template, variables)
    filled = cast("dict[str, Any]", _fill({"input": template.input, "start": template.start}, variables.__getitem__))
    start = filled["start"]
    return Filled(template.model, filled["input"], None if start is None else _text(start))


def _check_filled_size(template: Template, variables: Variables) -> None:
    """Before it is made: the sum of what stands there and what is put in."""
    size = len(msgspec.json.encode(template.input))

    def count(name: str) -> str:
        nonlocal size
        size += len(_text(variables[name]).encode(errors="replace"))
        return ""

    _fill({"input": template.input, "start": template.start}, count)
    if size > FILLED_BYTES_MAX:
        raise invalid("variables", f"would make an input of more than {FILLED_BYTES_MAX // 1024} kB")


def _fill(value: Any, of: Lookup) -> Any:
    match value:
        case str():
            if whole := VARIABLE.fullmatch(value):
                return of(whole[1])
            return VARIABLE.sub(lambda found: _text(of(found[1])), value)
        case dict():
            return {key: _fill(inner, of) for key, inner in cast("dict[str, Any]", value).items()}
        case list():
            return [_fill(inner, of) for inner in cast("list[Any]", value)]
        case _:
            return value


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _error(name: str, why: str, kind: str) -> dict[str, Any]:
    return {"loc": ["body", "variables", name], "msg": why, "type": kind}


def present_template(row: Row) -> dict[str, Any]:
    """The API's resource. Pure."""
    return {
        "id": str(row["id"]),
        "project_id": str(row["project_id"]),
        "slug": row["slug"],
        "name": row["name"],
        "model": row["model"],
        "input": row["input"],
        "start": row["start"],
        "variables": variables_of(template_of(row)),
        "created_at": instant(row["created_at"]),
        "updated_at": instant(row["updated_at"]),
    }


async def get_template(conn: Conn, project_id: UUID, slug: str) -> Row:
    """Raises LibraryError `not_found`."""
    row = None
    if SLUG.fullmatch(slug):
        row = await conn.fetchrow("select * from templates where project_id = $1 and slug = $2", project_id, slug)
    if row is None:
        raise not_found("template", repr(slug[:63]))
    return row


async def list_templates(conn: Conn, project_id: UUID, *, limit: int = 100, cursor: str | None = None) -> Page:
    """By slug. `conn` is a snapshot."""
    after = decode(cursor, _After)
    if after and not SLUG.fullmatch(after.slug):
        raise invalid("cursor", "is not one of this list's")
    checked_limit(limit)
    seq = await head(conn, project_id)
    rows = await conn.fetch(
        "select * from templates where project_id = $1 and ($2::text is null or slug > $2) order by slug limit $3",
        project_id,
        after and after.slug,
        limit + 1,
    )
    return page(rows, limit, seq, lambda row: _After(row["slug"]))


async def create_template(
    tx: Transaction, project_id: UUID, slug: str, name: str, model: str, input: dict[str, Any], start: str | None = None
) -> Row:
    """Raises LibraryError `conflict` (the slug is taken), `invalid_input`."""
    args = _checked(slug, name, model, input, start)
    row = await tx.conn.fetchrow(
        """
        insert into templates (project_id, slug, name, model, input, start) values ($1, $2, $3, $4, $5, $6)
        on conflict (project_id, slug) do nothing returning *
        """,
        project_id,
        *args,
    )
    if row is None:
        raise LibraryError("conflict", f"there is a template {slug} already")
    return row


async def put_template(
    tx: Transaction, project_id: UUID, slug: str, name: str, model: str, input: dict[str, Any], start: str | None = None
) -> Row:
    """Make it, or replace it whole. Raises LibraryError `invalid_input`."""
    row = await tx.conn.fetchrow(
        """
        insert into templates (project_id, slug, name, model, input, start) values ($1, $2, $3, $4, $5, $6)
        on conflict (project_id, slug) do update set name = excluded.name, model = excluded.model,
            input = excluded.input, start = excluded.start, updated_at = now()
        returning *
        """,
        project_id,
        *_checked(slug, name, model, input, start),
    )
    assert row is not None
    return row


async def delete_template(tx: Transaction, project_id: UUID, slug: str) -> None:
    """Raises LibraryError `not_found`. Jobs made from it are not concerned."""
    row = await get_template(tx.conn, project_id, slug)
    await tx.conn.execute("delete from templates where id = $1", row["id"])


def _checked(slug: str, name: str, model: str, input: dict[str, Any], start: str | None) -> tuple[Any, ...]:
    if not SLUG.fullmatch(slug):
        raise invalid("slug", "is 1 to 63 of a-z, 0-9 and -, and does not begin with -")
    return (
        slug,
        checked.text("name", name),
        checked.text("model", model),
        checked.data("input", input),
        None if start is None else checked.text("start", start),
    )
