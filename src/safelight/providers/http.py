"""How we talk to a provider's API: one POST for a submit and never a second, bounded reads, and errors told apart.

The one question after a failed submit is whether the provider may have taken it (P8, providers.md §7.3): what
certainly never left this machine is `Refused` and may be sent again, everything else is `Ambiguous`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, NoReturn, cast
from urllib.parse import urlsplit

import httpx

from safelight.providers.base import JSON, AccountProblem, Ambiguous, Refused, Rejected, Transient
from safelight.providers.failures import failure
from safelight.providers.loose_json import as_object, decode, readable

# httpx logs every URL at INFO, and a submit's URL carries the webhook's secret token.
logging.getLogger("httpx").setLevel(logging.WARNING)

CONNECT_S = 5.0
READ_S = 30.0
"""Between two bytes. A submit that takes longer is not answered any more."""
TOTAL_S = 60.0
"""For a whole exchange, so that an answer that drips does not hold a worker."""
KEEPALIVE_S = 3.0
"""Idle connections are dropped before servers drop them (5 s and up): a submit on a closing one is ambiguous."""
CONNECTIONS_MAX = 100
SUBMIT_ANSWER_MAX = 1_000_000
"""Bytes of a submit's or status' answer; real ones are below 10 kB."""
RESULT_ANSWER_MAX = 32_000_000
"""Bytes of a result with its media inline, as `data:` URIs."""
KEPT_BODY_MAX = 4_000
"""Signs of a provider's answer that are kept with a failure."""
RETRY_AFTER_MAX_S = 3600.0
NGINX: Final = "<center>nginx"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that was read to its end. `data` is the decoded JSON, None where it is none."""

    status: int
    headers: Mapping[str, str]
    data: Any
    text: str
    """The body as text, at most `KEPT_BODY_MAX` signs."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def object(self) -> Mapping[str, Any]:
        """The JSON object of the body, empty where the body is something else."""
        return as_object(self.data)

    @property
    def kept_body(self) -> Any:
        """What a failure keeps of the body: as decoded if it is small, else its first signs."""
        if self.data is None:
            return self.text or None
        return self.data if len(json.dumps(self.data, ensure_ascii=False)) <= KEPT_BODY_MAX else self.text

    def retry_after_s(self, now: datetime | None = None) -> float | None:
        """From the header (seconds or a date) or the body's `retry_after`; None = not said."""
        said = self.headers.get("retry-after") or self.object.get("retry_after")
        return retry_after_s(said, now or datetime.now(UTC))


def is_turned_away(answer: Answer) -> bool:
    """A 503 by which the request certainly went no further: one that says when to come again, or nginx's own page.

    nginx says 503 of itself (nobody behind it, a limit, maintenance); what it has passed on and lost is a 502 or 504.
    Other gateways say 503 for both, so any other 503 leaves open whether the provider has it (P8).
    """
    if answer.status != 503:
        return False
    return "retry-after" in answer.headers or (
        "503 Service Temporarily Unavailable" in answer.text and NGINX in answer.text
    )


class AnswerTooLarge(Exception):
    """The answer passed its limit; asking again will not make it smaller."""


class Api:
    """One provider's HTTP. Follows no redirects: an API that answers with one is not the API we were given."""

    def __init__(self, headers: Mapping[str, str], *, base_urls: Sequence[str], read_s: float = READ_S) -> None:
        secure = any(url.startswith("https:") for url in base_urls)
        self._client = httpx.AsyncClient(
            headers={"accept": "application/json", "accept-encoding": "identity", **headers},
            timeout=httpx.Timeout(read_s, connect=CONNECT_S, pool=CONNECT_S),
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX, max_keepalive_connections=20, keepalive_expiry=KEEPALIVE_S
            ),
            follow_redirects=False,
            # A proxy of the environment is for the outside: emulators and sidecars are reached directly.
            trust_env=not any(is_private_host(urlsplit(url).hostname or "") for url in base_urls),
            # Without https among our addresses an empty context will do: it trusts nobody and costs nothing.
            verify=_tls() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    async def submit(self, method: str, url: str, *, body: Any, params: Mapping[str, str] | None = None) -> Answer:
        """Exactly one request.

        Raises Refused where it never left, Ambiguous where nobody knows, AccountProblem where our own address is
        wrong, Rejected where the body is no JSON.
        """
        try:
            content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError) as error:
            raise Rejected(failure("invalid_input", "it cannot be written as JSON")) from error
        try:
            async with asyncio.timeout(TOTAL_S):
                answer = await self._exchange(method, url, SUBMIT_ANSWER_MAX, content=content, params=params)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, AnswerTooLarge) as error:
            raise_submit_failure(error)
        if 300 <= answer.status < 400:
            raise AccountProblem(failure("provider_misconfigured", "it answers with a redirect", status=answer.status))
        return answer

    async def read(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        body: JSON | None = None,
        limit: int = SUBMIT_ANSWER_MAX,
        with_key: bool = True,
    ) -> Answer:
        """A request that may be repeated freely. Raises Transient, or AnswerTooLarge."""
        try:
            async with asyncio.timeout(TOTAL_S):
                content = None if body is None else json.dumps(body).encode()
                return await self._exchange(method, url, limit, content=content, params=params, with_key=with_key)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise Transient(failure("provider_unreachable", _name(error))) from error

    async def close(self) -> None:
        await self._client.aclose()

    async def _exchange(
        self,
        method: str,
        url: str,
        limit: int,
        *,
        content: bytes | None,
        params: Mapping[str, str] | None,
        with_key: bool = True,
    ) -> Answer:
        headers = {"content-type": "application/json"} if content is not None else {}
        request = self._client.build_request(method, url, content=content, params=params, headers=headers)
        if not with_key:
            request.headers.pop("authorization", None)
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > limit:
                    raise AnswerTooLarge(f"more than {limit} bytes")
        finally:
            await response.aclose()
        said = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, said, decode(body), readable(body, KEPT_BODY_MAX))


def raise_submit_failure(error: Exception) -> NoReturn:
    """A submit without an answer, told apart by whether it may have reached the provider."""
    match error:
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            raise AccountProblem(failure("provider_misconfigured", _name(error))) from error
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout() | httpx.ProxyError():
            raise Refused(failure("provider_unreachable", _name(error))) from error
        case _:
            raise Ambiguous(failure("submit_unknown", _name(error))) from error


def retry_after_s(said: object, now: datetime) -> float | None:
    """Seconds to wait, 0 to one hour; None where nothing sensible was said."""
    if isinstance(said, bool) or said is None:
        return None
    try:
        wait_s = float(cast(str, said))
    except OverflowError:
        return None
    except (TypeError, ValueError):
        try:
            at = parsedate_to_datetime(str(said))
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
        wait_s = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S) if wait_s == wait_s else None


def origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port, or None for what is no http(s) URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        return None
    return parts.scheme, parts.hostname.lower(), port or (443 if parts.scheme == "https" else 80)


def is_private_host(host: str) -> bool:
    """A name or address that is plainly of this machine or network (nothing is resolved)."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal"))


def _name(error: Exception) -> str:
    """The kind of error, never its text: that may carry URLs with tokens."""
    kinds: Final = {
        httpx.ConnectTimeout: "no connection in time",
        httpx.PoolTimeout: "too many requests of ours at once",
        httpx.ConnectError: "no connection",
        httpx.ProxyError: "the proxy refused",
        httpx.ReadTimeout: "no answer in time",
        httpx.RemoteProtocolError: "the connection was closed before an answer",
        httpx.ReadError: "the connection broke",
    }
    return kinds.get(cast(Any, type(error)), type(error).__name__)


@cache
def _tls() -> ssl.SSLContext:
    """One for all providers: it holds the certificate bundle, a few megabytes."""
    return httpx.create_ssl_context()
