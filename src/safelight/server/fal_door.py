"""The fal door put together (K4): its own secrets, and the sender of its callbacks."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from starlette.routing import BaseRoute

from safelight.access.secret_store import installation_secret
from safelight.api.context import Context
from safelight.compat.fal.callbacks import AT_ONCE, Callbacks, Output
from safelight.compat.fal.door import Door
from safelight.compat.fal.routes import fal_door
from safelight.compat.fal.signing import Signer
from safelight.outgoing.post import GuardedPost
from safelight.server.settings import Settings

FILES: Final = "fal_files"
CALLBACKS: Final = "fal_callbacks"


@dataclass(frozen=True, slots=True)
class FalDoor:
    """`route` for a process that answers requests, `run` for one that works."""

    route: BaseRoute
    callbacks: Callbacks
    output: Output

    def run(self) -> Coroutine[Any, Any, None]:
        """Tell those who asked to be told. Until cancelled."""
        return self.callbacks.run(self.output)


async def open_fal_door(
    context: Context, settings: Settings, base_url: str, stack: contextlib.AsyncExitStack
) -> FalDoor:
    addresses = context.outgoing.addresses
    post = GuardedPost(addresses, connections_max=AT_ONCE)
    stack.push_async_callback(post.close)
    signer = Signer(await installation_secret(context.db, CALLBACKS))
    callbacks = Callbacks(context.db, addresses, post, signer, context.now)
    context.db.on_touch(callbacks.hint)
    door = Door(
        db=context.db,
        gate=context.gate,
        jobs=context.jobs,
        models=context.models,
        uploads=context.uploads,
        feed=context.feed,
        streams=context.streams,
        metrics=context.metrics,
        media_url=context.media_url,
        now=context.now,
        secret=await installation_secret(context.db, FILES),
        public_url=(settings.public_url or "").rstrip("/") or None,
        base_url=base_url,
    )
    route, output = fal_door(door, callbacks)
    return FalDoor(route, callbacks, output)
