"""Models that were defined through the API (P1): rows that lie over the registry's files, on every node.

Each node compares one number with what it has; the rows are read only when that differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from safelight.db.pool import AWAY, Conn, Database, Transaction
from safelight.providers.model import Model
from safelight.providers.model_faults import ModelInvalid, alias_taken, read_model
from safelight.providers.registry import Registry

log: Final = structlog.get_logger("jobs")

MODELS_MAX: Final = 1000
"""Defined through the API: each is in every process's memory, and in `GET /v1/models`."""
BODY_BYTES_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Defined:
    """A model as it was given."""

    name: str
    body: Mapping[str, Any]
    updated_at: datetime
    updated_by: str


class Offered:
    """Keeps a registry as the database has it."""

    def __init__(self, db: Database, registry: Registry) -> None:
        self._db = db
        self._registry = registry
        self._version = 0
        """Of what lies over the files now; a fresh database has version 0 and no rows."""

    async def refresh(self) -> None:
        """Ask whether something changed. A database that is away changes nothing."""
        try:
            async with self._db.connection() as conn:
                await self.learn(conn, await conn.fetchval("select version from models_version where one"))
        except AWAY as error:
            log.warning("models.unread", error=repr(error))

    async def learn(self, conn: Conn, version: int) -> None:
        """The database is at `version`: read the models if that is news."""
        if version == self._version:
            return
        models: list[Model] = []
        for each in await defined(conn):
            try:
                models.append(read_model(each.name, each.body))
            except ModelInvalid as error:
                # It was right for the version of Safelight that took it. The others must not suffer.
                log.error("model.unreadable", model=each.name, error=str(error))
        self._registry.lay_over(models)
        self._version = version
        log.info("models.read", defined=len(models), version=version)

    async def define(
        self, name: str, body: Mapping[str, Any], providers: frozenset[str], tx: Transaction, actor: str
    ) -> bool:
        """Write it down; true if there was none of this name. Raises ModelInvalid."""
        model = read_model(name, body)
        if wrong := self._faults(model, providers):
            raise ModelInvalid(wrong)
        count = await tx.conn.fetchval("select count(*) from models where name <> $1", name)
        if count >= MODELS_MAX:
            said = f"There are {MODELS_MAX} models by API already; delete one first"
            raise ModelInvalid([{"loc": ["path", "name"], "msg": said, "type": "too_many"}])
        return await tx.conn.fetchval(
            """
            insert into models (name, body, updated_by) values ($1, $2, $3)
            on conflict (name) do update set body = excluded.body, updated_by = excluded.updated_by, updated_at = now()
            returning xmax = 0
            """,
            name,
            dict(body),
            actor,
        )

    def _faults(self, model: Model, providers: frozenset[str]) -> list[dict[str, Any]]:
        """What is wrong with it in this installation."""
        wrong = [
            {
                "loc": ["body", "routes", index, "provider"],
                "msg": f"There is no provider {route.provider!r} here; there are {', '.join(sorted(providers))}",
                "type": "one_of",
            }
            for index, route in enumerate(model.routes)
            if route.provider not in providers
        ]
        for index, alias in enumerate(model.aliases):
            if taken := alias_taken(model.id, alias, self._registry):
                loc = ["body", "aliases", index]
                wrong.append({"loc": loc, "msg": f"{alias!r} is {taken}", "type": "taken"})
        owner = self._registry.get(model.id)
        if owner is not None and owner.id != model.id:
            said = f"{model.id!r} is an alias of {owner.id}"
            wrong.append({"loc": ["path", "name"], "msg": said, "type": "taken"})
        return wrong


async def defined(conn: Conn) -> list[Defined]:
    rows = await conn.fetch("select name, body, updated_at, updated_by from models order by name")
    return [Defined(**dict(row)) for row in rows]


async def find(conn: Conn, name: str) -> Defined | None:
    row = await conn.fetchrow("select name, body, updated_at, updated_by from models where name = $1", name)
    return None if row is None else Defined(**dict(row))


async def remove(conn: Conn, name: str) -> bool:
    """False: there was none."""
    return bool(await conn.fetchval("delete from models where name = $1 returning true", name))
