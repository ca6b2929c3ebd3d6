"""What both clients share: who we are, how a call becomes a request, and what a failed request means. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from uuid import UUID

import httpx

from safelight import __version__
from safelight.sdk.call import Call, read_answer
from safelight.sdk.connection import Connection
from safelight.sdk.errors import NotConfigured, Unreachable
from safelight.sdk.files import absolute

T = TypeVar("T")

READ_S: Final = 40.0
"""Longer than the server lets any request live (30 s, J1)."""
TIMEOUTS: Final = httpx.Timeout(connect=5.0, read=READ_S, write=READ_S, pool=15.0)
UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Session:
    """The immutable part of a client."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.client_id = f"py-{secrets.token_hex(8)}"
        """Names us as the origin of our changes, so that we can tell them from others'."""

    def project(self, project: UUID | str | None) -> UUID | str:
        """The one given, else the default. Raises NotConfigured."""
        project = project or self.connection.project
        if not project:
            raise NotConfigured("no project is given: pass project=… or set SAFELIGHT_PROJECT", code="not_configured")
        return project

    def request(self, call: Call[Any], *, is_stream: bool = False, read_s: float | None = None) -> dict[str, Any]:
        """Keyword arguments for httpx. The key goes to our server only: redirects are never followed with it."""
        headers = {
            "User-Agent": f"safelight-python/{__version__}",
            "Accept": "text/event-stream" if is_stream else "application/json",
            "Safelight-Client": self.client_id,
            **call.headers,
        }
        if self.connection.key:
            headers["Authorization"] = f"Bearer {self.connection.key}"
        content, content_type = call.content()
        if content is not None:
            headers["Content-Type"] = content_type
        timeout = TIMEOUTS
        if read_s is not None:
            timeout = httpx.Timeout(connect=min(5.0, read_s), read=read_s, write=read_s, pool=15.0)
        return {
            "method": call.method,
            "url": self.connection.url + call.path,
            "params": call.query(),
            "content": content,
            "headers": headers,
            "timeout": timeout,
            "follow_redirects": False,
        }

    def read(self, call: Call[T], status: int, headers: Mapping[str, str], content: bytes) -> T:
        """The typed result, addresses made whole. Raises the SafelightError that the answer is."""
        return absolute(self.connection.url, read_answer(call, status, headers, content))

    def unreachable(self, error: httpx.TransportError) -> Unreachable:
        words = str(error) or type(error).__name__
        return Unreachable(f"no answer from {self.connection.url}: {words}", code="unreachable")


def is_unsent(error: httpx.TransportError) -> bool:
    """Whether it is certain that the server has not seen the request."""
    return isinstance(error, UNSENT)
