"""One topic of a project: who is on it, what they say to each other, who is present (S4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, cast
from uuid import uuid4

from safelight.realtime.outlet import Batch, Wire
from safelight.realtime.phoenix import Vsn, broadcast_binary, broadcast_json, envelope
from safelight.realtime.presence import Board
from safelight.realtime.room import HubStats, Member
from safelight.realtime.session import Join

__all__ = ["Topic"]

DIFF_S: Final = 0.05
"""Who comes and goes within this shares one `presence_diff`."""


class Topic:
    """Members by join; broadcasts go to all of them, presence to those who asked for it."""

    def __init__(
        self, wire_name: str, stats: HubStats, tell: Callable[[int, str, dict[str, Any] | None], None]
    ) -> None:
        self.wire_name = wire_name
        self.members: dict[int, Member] = {}
        self.board = Board()
        self._stats = stats
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None

    def add(self, member: Member) -> None:
        self._flush_presence()  # what it is about to be told must not come a second time
        self.members[id(member.join)] = member
        if member.has_presence:
            self._send_state(member)

    def remove(self, join: Join) -> None:
        self.members.pop(id(join), None)
        self.untrack(join)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # -- broadcast

    def publish(self, event: str, body: bytes, *, is_json: bool, sender: Join | None) -> None:
        """To everybody but the sender, unless it wants its own; made once a version."""
        self._stats.broadcasts += 1
        meta = b'{"id":"%s"}' % str(uuid4()).encode()
        batches: dict[Vsn, Batch | None] = {}
        for member in self.members.values():
            if sender is not None and member.join is sender and not sender.config.echo:
                continue
            vsn = member.key.vsn
            if vsn not in batches:
                wire = self._wire(vsn, event, body, meta, is_json=is_json)
                batches[vsn] = Batch((wire,)) if wire is not None else None
            batch = batches[vsn]
            if batch is None or not member.seat.outlet.offer(batch):
                self._stats.dropped += 1
            else:
                self._stats.frames += 1

    def _wire(self, vsn: Vsn, event: str, body: bytes, meta: bytes, *, is_json: bool) -> Wire | None:
        """None where this version has no form for it: the first knows only objects."""
        if is_json:
            if vsn is Vsn.V1 and not body.lstrip().startswith(b"{"):
                return None
            return Wire(envelope(vsn, self.wire_name, "broadcast", broadcast_json(event, body, meta)))
        if vsn is Vsn.V1:
            return None
        return Wire(broadcast_binary(self.wire_name, event, body, meta), is_text=False)

    # -- presence

    def track(self, join: Join, meta: Mapping[str, Any]) -> None:
        """Show this member, and tell the other processes."""
        member = self.members.get(id(join))
        if member is None:
            return
        if not member.has_presence:  # whoever shows itself wants to see the others
            self._flush_presence()
            member.has_presence = True
            self._send_state(member)
        key = join.config.presence_key or str(uuid4())
        if not self.board.track(id(join), key, meta):
            self._stats.dropped += 1
            return
        self._schedule()
        self._tell(id(join), key, dict(meta))

    def untrack(self, join: Join) -> None:
        if self.board.untrack(id(join)):
            self._schedule()
            self._tell(id(join), "", None)

    def show(self, holder: tuple[str, int], key: str, meta: Mapping[str, Any] | None) -> None:
        """Somebody of another process is here, or (None) no more. Told again, nothing changes."""
        if meta is None:
            has_changed = self.board.untrack(holder)
        else:
            has_changed = not self.board.shows(holder, key, meta) and self.board.track(holder, key, meta)
        if has_changed:
            self._schedule()

    def forget(self, node: str) -> None:
        """Another process is gone."""
        for holder, _, _ in list(self.board.held()):
            if isinstance(holder, tuple) and holder[0] == node:
                self.show(cast(tuple[str, int], holder), "", None)

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DIFF_S, self._flush_presence)

    def _flush_presence(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        diff = self.board.take_diff()
        if diff is None:
            return
        wires: dict[Vsn, Wire] = {}
        for member in self.members.values():
            if not member.has_presence:
                continue
            vsn = member.key.vsn
            if vsn not in wires:
                wires[vsn] = Wire(envelope(vsn, self.wire_name, "presence_diff", diff))
            # Never dropped: presence has no cursor to catch up from. A reader that takes nothing is closed in the end.
            member.seat.outlet.put(wires[vsn])
            self._stats.frames += 1

    def _send_state(self, member: Member) -> None:
        push = member.join.push
        state = envelope(member.key.vsn, self.wire_name, "presence_state", self.board.state(), push.join_ref)
        member.seat.outlet.put(Wire(state))
        self._stats.frames += 1
