"""Safelight: every finished result appears in every open window, is stored for good, and is paid for exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safelight.sdk import AsyncSafelight, Safelight

__version__ = "0.1.0"
__all__ = ["AsyncSafelight", "Safelight", "__version__"]


def __getattr__(name: str) -> Any:
    """The client, imported when it is asked for: the server does not pay for it."""
    if name in ("Safelight", "AsyncSafelight"):
        from safelight import sdk

        return getattr(sdk, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
