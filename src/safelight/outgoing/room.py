"""What the API needs of this room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from safelight.outgoing.address import Addresses
from safelight.outgoing.secret import Signer


@dataclass(frozen=True, slots=True)
class Outgoing:
    addresses: Addresses
    signer: Signer
    wake: Callable[[], None]
    """Something is due: said after a commit, so that nobody waits for the sweep. Another process's sender finds it."""
