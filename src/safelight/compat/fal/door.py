"""What the handlers of the door work with, who asks, and in which project."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from starlette.requests import Request

from safelight.access.errors import Unauthorized
from safelight.access.gate import Gate
from safelight.access.principal import Action, Principal, Role
from safelight.compat.fal.wire import BadRequest
from safelight.db.pool import Database, Row
from safelight.jobs import reads
from safelight.jobs.errors import JobNotFound
from safelight.jobs.service import JobService
from safelight.media.uploads import Uploads
from safelight.observe.metrics import Metrics
from safelight.providers.registry import Registry
from safelight.realtime.feed import Feed
from safelight.realtime.stream_watch import StreamWatch

PATH: Final = "/compat/fal"
PROJECT_HEADER: Final = "safelight-project"
HELD_MAX: Final = 1_000
"""Runs and streams that one process holds open: each is a connection and a reader of the feed."""
HELD_OF_PROJECT_MAX: Final = 200


class TooManyHeld(Exception):
    """Nothing was begun."""


class Held:
    """How many requests wait for the end of a job."""

    def __init__(self, most: int = HELD_MAX, most_of_project: int = HELD_OF_PROJECT_MAX) -> None:
        self._most, self._most_of_project = most, most_of_project
        self._by_project: Counter[UUID] = Counter()
        self._all = 0

    @contextlib.contextmanager
    def one(self, project: UUID) -> Generator[None]:
        """While it is held. Raises TooManyHeld where no more may begin."""
        if self._all >= self._most or self._by_project[project] >= self._most_of_project:
            raise TooManyHeld
        self._all += 1
        self._by_project[project] += 1
        try:
            yield
        finally:
            self._all -= 1
            self._by_project[project] -= 1
            if not self._by_project[project]:
                del self._by_project[project]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `project`: the one that the key, the path or the header names."""

    principal: Principal
    project: UUID | None


@dataclass(frozen=True, slots=True)
class Door:
    """Made once by the composition root."""

    db: Database
    gate: Gate
    jobs: JobService
    models: Registry
    uploads: Uploads
    feed: Feed
    streams: StreamWatch
    metrics: Metrics
    media_url: Callable[[str], str]
    """A signed path of a stored file, relative to this server."""
    now: Callable[[], datetime]
    secret: bytes
    """Signs where uploads go and what they are called."""
    public_url: str | None
    """Where providers and receivers reach this server."""
    base_url: str
    """Where this process listens: for whoever is on this machine, where there is no public address."""
    held: Held = field(default_factory=Held)

    # --- who --------------------------------------------------------------------------------------------------

    async def caller(self, request: Request) -> Caller:
        """Who asks, by `Authorization: Key …` (or Bearer). Raises AccessError, or BadRequest for a misspelt project.

        Cookies count for nothing here: no page of another site can act in somebody's name.
        """
        authorization = request.headers.get("authorization")
        if not authorization:
            raise Unauthorized("Authentication is required: Authorization: Key, a space, and an API key.", "missing")
        principal = await self.gate.authenticate(authorization)
        named: UUID | None = request.path_params.get("project")
        if named is None and (said := request.headers.get(PROJECT_HEADER)):
            try:
                named = UUID(said)
            except ValueError:
                raise BadRequest(400, "The header Safelight-Project is a project's id.") from None
        return Caller(principal, named or principal.project_id)

    async def writer(self, request: Request) -> tuple[Caller, UUID]:
        """Who may make something, and in which project. Raises AccessError or BadRequest."""
        caller = await self.caller(request)
        if caller.project is None:
            raise BadRequest(
                400,
                f"This key opens several projects: name one in the path ({PATH}/p/PROJECT_ID/…) or in the header "
                "Safelight-Project.",
                "project_missing",
            )
        await self.gate.allow(caller.principal, caller.project, "write")
        return caller, caller.project

    async def job_for(self, request: Request, action: Action) -> tuple[Caller, Row, Role | None]:
        """The job that the path names, if the caller may do `action` with it. Raises AccessError or JobNotFound.

        Which app stands before it does not matter: the id alone says which request it is.
        """
        caller = await self.caller(request)
        try:
            identity = UUID(request.path_params["request_id"])
        except ValueError:
            raise JobNotFound from None
        row = await self.job(identity)
        if row is None or caller.project not in (None, row["project_id"]):
            raise JobNotFound
        role = await self.gate.allow(caller.principal, row["project_id"], action, unseen="There is no such request.")
        return caller, row, role

    async def job(self, identity: UUID) -> Row | None:
        async with self.db.connection() as conn:
            return await reads.job(conn, identity)

    # --- where ------------------------------------------------------------------------------------------------

    def origin(self, request: Request) -> str:
        """This server as the caller named it. TLS may end before us: then the public address knows the scheme."""
        host = request.headers.get("host", "")
        if self.public_url is not None and urlsplit(self.public_url).netloc == host:
            return self.public_url
        return f"{request.url.scheme}://{host}"

    def base(self, request: Request) -> str:
        """The door as the caller named it, with its project if that stood in the path."""
        return f"{self.origin(request)}{root_of(request)}"

    def file_url(self, request: Request | None, key: str) -> str:
        """A stored file for whoever needs it: providers too, so at the public address where there is one."""
        origin = self.public_url or (self.origin(request) if request is not None else self.base_url)
        return f"{origin}{self.media_url(key)}"


def root_of(request: Request) -> str:
    """The path that the door is mounted at."""
    return request.scope.get("root_path", "")


def logs_wanted(request: Request) -> bool:
    """`?logs=1`: the Python client says `true`."""
    return request.query_params.get("logs", "").lower() in ("1", "true")


def client_of(request: Request) -> str | None:
    """The client instance that asks, so that it knows its own changes in the feed."""
    return request.headers.get("safelight-client")
