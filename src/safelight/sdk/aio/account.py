"""Credits and keys of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from safelight.sdk import calls
from safelight.sdk.calls import Id
from safelight.sdk.resources import Key, Wallet

if TYPE_CHECKING:
    from safelight.sdk.aio.client import AsyncSafelight


class AsyncCredits:
    def __init__(self, client: AsyncSafelight) -> None:
        self._client = client

    async def get(self, *, project: Id | None = None) -> Wallet:
        return await self._client.send(calls.wallet(self._client.session.project(project)))

    async def grant(
        self,
        amount: int,
        *,
        project: Id | None = None,
        note: str = "",
        key: str | None = None,
    ) -> Wallet:
        """Add credits (secret keys only). With the same `key`, your own id of the grant, it happens once."""
        where = self._client.session.project(project)
        return await self._client.send(calls.grant(where, amount, key=key or uuid4().hex, note=note))


class AsyncKeys:
    def __init__(self, client: AsyncSafelight) -> None:
        self._client = client

    async def create(self, kind: str = "secret", *, name: str = "", project: Id | None = None) -> Key:
        """`secret` or `publishable`. The secret itself is in `key` of this answer and nowhere else."""
        return await self._client.send(calls.create_key(self._client.session.project(project), kind, name))

    async def list(self, *, project: Id | None = None) -> list[Key]:
        page = await self._client.send(calls.list_keys(self._client.session.project(project)))
        return page.items

    async def revoke(self, key: Id, *, project: Id | None = None) -> None:
        await self._client.send(calls.revoke_key(self._client.session.project(project), key))
