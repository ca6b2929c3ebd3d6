"""Credits and keys of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from safelight.sdk import calls
from safelight.sdk.calls import Id
from safelight.sdk.resources import Key, Wallet

if TYPE_CHECKING:
    from safelight.sdk.blocking.client import Safelight


class Credits:
    def __init__(self, client: Safelight) -> None:
        self._client = client

    def get(self, *, project: Id | None = None) -> Wallet:
        return self._client.send(calls.wallet(self._client.session.project(project)))

    def grant(
        self,
        amount: int,
        *,
        project: Id | None = None,
        note: str = "",
        key: str | None = None,
    ) -> Wallet:
        """Add credits (secret keys only). With the same `key`, your own id of the grant, it happens once."""
        where = self._client.session.project(project)
        return self._client.send(calls.grant(where, amount, key=key or uuid4().hex, note=note))


class Keys:
    def __init__(self, client: Safelight) -> None:
        self._client = client

    def create(self, kind: str = "secret", *, name: str = "", project: Id | None = None) -> Key:
        """`secret` or `publishable`. The secret itself is in `key` of this answer and nowhere else."""
        return self._client.send(calls.create_key(self._client.session.project(project), kind, name))

    def list(self, *, project: Id | None = None) -> list[Key]:
        page = self._client.send(calls.list_keys(self._client.session.project(project)))
        return page.items

    def revoke(self, key: Id, *, project: Id | None = None) -> None:
        self._client.send(calls.revoke_key(self._client.session.project(project), key))
