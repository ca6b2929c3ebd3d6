"""The database handle: one pool, transactions that are retried in one place, and the hint after commit.

A room writes through `Database.run(fn)`: `fn` gets a `Transaction`, may be called again from the start after a
deadlock or a serialisation failure, and so does nothing but SQL. `tx.touch(project)` says whose change log got
entries; listeners hear of it only after the commit, because NOTIFY inside it would serialise commits (design.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar, cast
from uuid import UUID

import asyncpg
import msgspec

T = TypeVar("T")
Row = Mapping[str, Any]
TouchListener = Callable[[frozenset[UUID]], None]

TRIES_MAX = 6
"""A transaction that lost six times in a row meets something a seventh try will not cure."""
COMMAND_TIMEOUT_S = 30.0
"""No statement of ours is allowed to run longer: a request never stays open longer than that (J1)."""
IDLE_S = 60.0
"""A connection unused for longer is not used again: something between us and the database may have forgotten it."""
_NUMBER_AND_COMMIT = "select set_config('safelight.seq', coalesce(changes_head('{}'), 0)::text, false); commit"
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # "connection is closed"
    asyncpg.OperatorInterventionError,  # shutting down, starting up
    asyncpg.ObjectNotInPrerequisiteStateError,  # accepts no connections
    asyncpg.InsufficientResourcesError,  # too many connections
)
"""What a database says (or does not) that is restarting, failing over or full. None of it is the statement's fault."""


class Conn(Protocol):
    """What we use of an asyncpg connection; asyncpg ships no complete types of its own."""

    async def execute(self, query: str, *args: Any) -> str: ...
    async def executemany(self, command: str, args: Iterable[Sequence[Any]]) -> None: ...
    async def fetch(self, query: str, *args: Any) -> list[Row]: ...
    async def fetchrow(self, query: str, *args: Any) -> Row | None: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...
    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> AbstractAsyncContextManager[Any]: ...


class Acquired(AbstractAsyncContextManager[Conn], Protocol):
    """A connection of the pool: for a `with` statement, or awaited and released by hand."""

    def __await__(self) -> Generator[Any, None, Conn]: ...


class Pool(Protocol):
    """What we use of an asyncpg pool."""

    def acquire(self) -> Acquired: ...
    async def release(self, connection: Conn) -> None: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...


_json = msgspec.json.Encoder(enc_hook=str)


def _encode_json(value: Any) -> str:
    return _json.encode(value).decode()


async def _prepare(connection: Any) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, encoder=_encode_json, decoder=msgspec.json.decode, schema="pg_catalog", format="text"
        )


async def _reset(connection: Any) -> None:
    """Give a connection back as it was taken. asyncpg's own reset costs a round trip each time; we set nothing
    that outlives a transaction, so only a transaction that was left open (a cancelled task) needs it."""
    if connection.is_in_transaction():
        await connection.reset()


def _is_open(connection: Conn) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # it broke, and the pool has taken it back
        return False


class Transaction:
    """A connection inside a transaction, and the projects whose log it has written to."""

    __slots__ = ("conn", "touched")

    def __init__(self, conn: Conn) -> None:
        self.conn = conn
        self.touched: set[UUID] = set()

    def touch(self, *projects: UUID) -> None:
        """Say that the change log of these projects got entries; heard by listeners after the commit."""
        self.touched.update(projects)

    async def head(self, project_id: UUID) -> int:
        """The seq of this transaction's last change in the project, for `Safelight-Seq`.

        Asked last: from here on the transaction holds the project's head.
        """
        return await self.conn.fetchval("select changes_head($1)", project_id) or 0


class Database:
    """Owns the pool. Create with `connect`, end with `close`."""

    def __init__(self, pool: Pool, dsn: str) -> None:
        self.pool = pool
        self.dsn = dsn
        self._listeners: list[TouchListener] = []
        self._lanes: dict[str, Lane] = {}

    @classmethod
    async def connect(cls, dsn: str, *, size_min: int = 1, size_max: int = 12) -> Database:
        """Open the pool. Raises OSError or asyncpg's errors if the server cannot be reached."""
        pool = await asyncpg.create_pool(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            dsn,
            min_size=size_min,
            max_size=size_max,
            init=_prepare,
            reset=_reset,
            command_timeout=COMMAND_TIMEOUT_S,
            max_inactive_connection_lifetime=IDLE_S,
            server_settings={
                "application_name": "safelight",
                "timezone": "UTC",
                "jit": "off",
                # Our statements are few, short and go by an index. Planning each anew costs more than they do; and a
                # plan made while a table was small must not read it whole when it is large.
                "plan_cache_mode": "force_generic_plan",
                "enable_seqscan": "off",
                "enable_hashjoin": "off",
                "enable_mergejoin": "off",
            },
        )
        return cls(cast(Pool, pool), dsn)

    def lane(self, name: str) -> Lane:
        """This database by one kept connection, for what is done often and must not wait. Same name, same lane."""
        return self._lanes.setdefault(name, Lane(self))

    async def close(self) -> None:
        """Give running statements a moment, then cut."""
        for lane in self._lanes.values():
            await lane.leave()
        try:
            await asyncio.wait_for(self.pool.close(), timeout=5)
        except TimeoutError:
            self.pool.terminate()

    def on_touch(self, listener: TouchListener) -> None:
        """`listener(projects)` is called in this process right after each commit that touched any."""
        self._listeners.append(listener)

    def touched(self, projects: frozenset[UUID]) -> None:
        """Tell the listeners. Called by `run`; called by hand only where somebody else's commit is relayed."""
        for listener in self._listeners:
            listener(projects)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Conn]:
        """A pooled connection outside a transaction: for reads of one statement."""
        async with self._acquire() as conn:
            yield conn

    def _acquire(self) -> AbstractAsyncContextManager[Conn]:
        return self.pool.acquire()

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[Conn]:
        """A read-only transaction in which every statement sees the same moment (S3)."""
        async with self._acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            yield conn

    async def run(self, work: Callable[[Transaction], Awaitable[T]], *, is_one_statement: bool = False) -> T:
        """Run `work` in a transaction; after a deadlock or serialisation failure, run it again from the start.

        Work that `is_one_statement` is a transaction by itself: saying so saves two round trips.
        """

        async def once(tx: Transaction) -> T:
            async with contextlib.nullcontext() if is_one_statement else tx.conn.transaction():
                return await work(tx)

        return await self._until_done(once)

    async def run_numbered(
        self, project: UUID | Callable[[T], UUID], work: Callable[[Transaction], Awaitable[T]]
    ) -> tuple[T, int]:
        """As `run`, and the seq of the transaction's last change in the project, for `Safelight-Seq`.

        `project` may be found out by `work`: then it is told from what that returned.

        The project's head is held from its numbering on. That and the commit are one message, so other writers of the
        project wait for the disk, and never for the turn of this process's loop.
        """

        async def once(tx: Transaction) -> tuple[T, int]:
            await tx.conn.execute("begin")
            try:
                result = await work(tx)
                await tx.conn.execute(_NUMBER_AND_COMMIT.format(project(result) if callable(project) else project))
            except BaseException:  # also when cancelled: a pool does not like to find a transaction open
                if _is_open(tx.conn):
                    await tx.conn.execute("rollback")
                raise
            return result, int(await tx.conn.fetchval("select current_setting('safelight.seq')"))

        return await self._until_done(once)

    async def _until_done(self, once: Callable[[Transaction], Awaitable[T]]) -> T:
        for tries in range(1, TRIES_MAX + 1):
            try:
                async with self._acquire() as conn:
                    tx = Transaction(conn)
                    result = await once(tx)
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                if tries == TRIES_MAX:
                    raise
                await asyncio.sleep(random.uniform(0, 0.005 * 2**tries))
                continue
            if tx.touched:
                self.touched(frozenset(tx.touched))
            return result
        raise AssertionError("unreachable")


class Lane(Database):
    """A database by one connection that is kept.

    What a PostgreSQL process has planned and read before is its own: a settle that takes 3 ms takes 15 to 50 the first
    time in another one, and a pool hands out now this one, now that. Who finds the lane busy gets a connection of
    the pool; one that met with an error goes back to it, which knows how to mend it. As in the pool, one that was not
    used for a while is replaced.
    """

    def __init__(self, whole: Database) -> None:
        super().__init__(whole.pool, whole.dsn)
        self._listeners = whole._listeners
        self._kept: Conn | None = None
        self._used_at = 0.0
        self._is_busy = False
        self._has_left = False

    async def leave(self) -> None:
        """Give the connection back; from now on none is kept."""
        self._has_left = True
        if not self._is_busy:
            await self._release()

    def _acquire(self) -> AbstractAsyncContextManager[Conn]:
        return self.pool.acquire() if self._is_busy or self._has_left else self._keep()

    @asynccontextmanager
    async def _keep(self) -> AsyncGenerator[Conn]:
        self._is_busy = True
        try:
            if self._kept is not None and _is_open(self._kept) and time.monotonic() - self._used_at > IDLE_S:
                self._kept.terminate()
            if self._kept is None or not _is_open(self._kept):
                await self._release()
                self._kept = await self.pool.acquire()
            yield self._kept
            self._used_at = time.monotonic()
        except BaseException:
            await self._release()
            raise
        else:
            if self._has_left:
                await self._release()
        finally:
            self._is_busy = False

    async def _release(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            await self.pool.release(kept)
