"""The project's stored results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safelight.sdk import calls
from safelight.sdk.calls import Id
from safelight.sdk.resources import Generation, Page

if TYPE_CHECKING:
    from safelight.sdk.aio.client import AsyncSafelight


class AsyncGenerations:
    def __init__(self, client: AsyncSafelight) -> None:
        self._client = client

    async def get(self, generation: Id) -> Generation:
        """Raises NotFound."""
        return await self._client.send(calls.get_generation(generation))

    async def list(
        self,
        *,
        project: Id | None = None,
        kind: str | None = None,
        starred: bool | None = None,
        shot_id: Id | None = None,
        q: str | None = None,
        model: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Generation]:
        """Newest first, or in the shot's order."""
        return await self._client.send(
            calls.list_generations(
                self._client.session.project(project),
                kind=kind,
                starred=starred,
                shot_id=shot_id,
                q=q,
                model=model,
                limit=limit,
                cursor=cursor,
            )
        )

    async def star(self, generation: Id, *, is_starred: bool = True) -> Generation:
        return await self._client.send(calls.star_generation(generation, is_starred=is_starred))

    async def delete(self, generation: Id) -> None:
        """Out of every list; `restore` brings it back."""
        await self._client.send(calls.delete_generation(generation))

    async def restore(self, generation: Id) -> Generation:
        return await self._client.send(calls.restore_generation(generation))
