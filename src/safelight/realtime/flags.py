"""The kill switch and its companions (S8): a table, overridden by the environment, read every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog

from safelight.access import audit
from safelight.db.pool import Conn, Database, Transaction
from safelight.realtime.bus_pg import TOPIC_CHANNEL
from safelight.realtime.room import AWAY

__all__ = [
    "FLAGS",
    "HINT",
    "BadFlag",
    "FlagBoard",
    "Flags",
    "checked",
    "from_environment",
    "hint",
    "parsed",
    "read_flags",
    "store_flag",
]

log = structlog.get_logger("realtime")

LOOK_S: Final = 2.0
"""In force within 10 s everywhere, also where nobody heard the hint and one look fails."""
HINT: Final = "flags"
"""The bus's topic for "look sooner"."""
POLLING_MS: Final = (500, 600_000)


class BadFlag(ValueError):
    """A value that the flag cannot have."""


@dataclass(frozen=True, slots=True)
class Flags:
    """As clients are told (api.md, `client-config`)."""

    realtime_enabled: bool = True
    legacy_listeners_enabled: bool = False
    deadmode_force_polling_ms: int | None = None

    def encoded(self) -> bytes:
        """The payload of `config`."""
        return msgspec.json.encode(self)


FLAGS: Final[Mapping[str, str]] = {
    "REALTIME_ENABLED": "realtime_enabled",
    "LEGACY_LISTENERS_ENABLED": "legacy_listeners_enabled",
    "DEADMODE_FORCE_POLLING_MS": "deadmode_force_polling_ms",
}
"""Name -> field."""


def checked(name: str, value: Any) -> Any:
    """The value if the flag may have it. Raises BadFlag."""
    if name not in FLAGS:
        raise BadFlag(f"There is no flag {name}; there are {', '.join(FLAGS)}.")
    if name == "DEADMODE_FORCE_POLLING_MS":
        is_int = isinstance(value, int) and not isinstance(value, bool)
        if not is_int or not POLLING_MS[0] <= value <= POLLING_MS[1]:
            raise BadFlag(f"{name} is a whole number of milliseconds from {POLLING_MS[0]} to {POLLING_MS[1]}.")
    elif not isinstance(value, bool):
        raise BadFlag(f"{name} is true or false.")
    return value


def parsed(name: str, text: str) -> Any:
    """A flag's value from a text, as in the environment and on the command line. Raises BadFlag."""
    folded = text.strip().lower()
    if folded in ("true", "on", "yes", "1") and name != "DEADMODE_FORCE_POLLING_MS":
        return checked(name, True)
    if folded in ("false", "off", "no", "0") and name != "DEADMODE_FORCE_POLLING_MS":
        return checked(name, False)
    return checked(name, int(folded) if folded.isascii() and folded.isdigit() else text)


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the environment overrides: `SAFELIGHT_REALTIME_ENABLED` or plain `REALTIME_ENABLED`. Raises BadFlag."""
    found: dict[str, Any] = {}
    for name in FLAGS:
        text = environ.get(f"SAFELIGHT_{name}", environ.get(name, ""))
        if text.strip():
            found[name] = parsed(name, text)
    return found


async def read_flags(conn: Conn, overrides: Mapping[str, Any]) -> Flags:
    """What is in force: the defaults, the table over them, the environment over both."""
    values: dict[str, Any] = {}
    for row in await conn.fetch("select name, value from flags where name = any ($1)", list(FLAGS)):
        try:
            values[row["name"]] = checked(row["name"], row["value"])
        except BadFlag as error:
            log.warning("flags.unusable", flag=row["name"], problem=str(error))
    values.update(overrides)
    return Flags(**{FLAGS[name]: value for name, value in values.items()})


async def store_flag(db: Database, name: str, value: Any, actor: str) -> None:
    """Write a flag (None: back to its default) and who did it. Raises BadFlag."""
    if value is not None:
        checked(name, value)

    async def work(tx: Transaction) -> None:
        if value is None:
            await tx.conn.execute("delete from flags where name = $1", name)
        else:
            await tx.conn.execute(
                "insert into flags (name, value) values ($1, $2)"
                " on conflict (name) do update set value = excluded.value, updated_at = now()",
                name,
                value,
            )
        await audit.record(tx, actor, "flags.set", None, {name: value})
        await hint(tx.conn)

    await db.run(work)


async def hint(conn: Conn) -> None:
    """Tell every server, with the commit, to look now. By NOTIFY, because whoever sets a flag may be no server."""
    await conn.execute("select pg_notify($1, $2)", TOPIC_CHANNEL, f"{HINT} ")


class FlagBoard:
    """The flags in force in this process. `run` keeps them fresh and says when they change."""

    def __init__(self, db: Database, environ: Mapping[str, str], on_change: Callable[[Flags], None]) -> None:
        self.now = Flags()
        self._db = db
        self._overrides = from_environment(environ)
        self._on_change = on_change
        self._hint = asyncio.Event()

    def look(self) -> None:
        """Somebody says that they changed."""
        self._hint.set()

    async def refresh(self) -> None:
        """Read them now. A database that is away changes nothing."""
        try:
            async with self._db.connection() as conn:
                found = await read_flags(conn, self._overrides)
        except AWAY as error:
            log.warning("flags.unread", error=repr(error))
            return
        if found != self.now:
            self.now = found
            log.info("flags.changed", flags=msgspec.to_builtins(found))
            self._on_change(found)

    async def run(self) -> None:
        while True:
            await self.refresh()
            self._hint.clear()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._hint.wait()
            except TimeoutError:
                continue
