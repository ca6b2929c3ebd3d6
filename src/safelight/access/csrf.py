"""Whether a request that carries our cookie also comes from our page (O4). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def csrf_ok(method: str, headers: Mapping[str, str], own_origins: Collection[str]) -> bool:
    """Whether cookie authentication may be believed for this request.

    Reading is always fine: other sites cannot see the answer. Anything else, and opening a WebSocket (a GET whose
    answer other sites do see), must say that it comes from our page. `headers` is asked in lower case.
    """
    if method in SAFE_METHODS and headers.get("upgrade", "").lower() != "websocket":
        return True
    # The browser's own word: scripts cannot set it, and it needs no knowledge of the address we are served under.
    if headers.get("sec-fetch-site") == "same-origin":
        return True
    origin = _normal(headers.get("origin", ""))
    return origin is not None and origin in {_normal(own) for own in own_origins}


def _normal(origin: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(origin)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None or parts.username or parts.password:
        return None
    return parts.scheme, parts.hostname, port
