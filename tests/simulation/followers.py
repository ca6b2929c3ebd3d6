"""Clients that follow projects as real ones do: by socket, by event stream, by polling. Each keeps its cursor (S2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

Json = dict[str, Any]

SILENCE_S = 25.0
"""A line on which nothing comes for this long is dead: the server beats more often."""
BEAT_S = 5.0
RETRY_S = (0.05, 0.6)
WAIT_S = 4
"""How long a poll waits for news."""


class Replica:
    """One project as one client knows it. Every change must be the very next one: no hole, nothing twice."""

    def __init__(self, project: UUID) -> None:
        self.project = project
        self.epoch: str | None = None
        self.cursor = 0
        self.rows: dict[tuple[str, str], Json] = {}
        self.faults: list[str] = []
        self.latest_s = 0.0
        """How old the oldest change was when it came."""

    def apply(self, change: Json, epoch: str) -> None:
        if change["seq"] != self.cursor + 1 or self.epoch not in (None, epoch):
            self.faults.append(f"{change['seq']} of {epoch} came at {self.cursor} of {self.epoch}")
        self.epoch, self.cursor = epoch, change["seq"]
        key = (change["table"], change["id"])
        if change["op"] == "delete":
            self.rows.pop(key, None)  # a row that came and went in one transaction is only ever deleted
        else:
            self.rows[key] = change["row"]
        age_s = (datetime.now(UTC) - datetime.fromisoformat(change["at"])).total_seconds()
        self.latest_s = max(self.latest_s, age_s)


class Follower(ABC):
    """`run` it until cancelled; what it knows is in `replicas`."""

    def __init__(self, url: str, key: str, projects: Iterable[UUID], chance: random.Random) -> None:
        self.replicas = {project: Replica(project) for project in projects}
        self.counts: Counter[str] = Counter()
        self._url = url
        self._key = key
        self._chance = chance

    @property
    def faults(self) -> list[str]:
        return [fault for replica in self.replicas.values() for fault in replica.faults]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for part in self._parts():
                group.create_task(self._insist(part))

    async def _insist(self, part: list[Replica]) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, httpx.HTTPError, WebSocketException):
                await self._follow(part)
            self.counts["lines"] += 1
            await asyncio.sleep(self._chance.uniform(*RETRY_S))

    def _parts(self) -> list[list[Replica]]:
        """What goes over one line."""
        return [[replica] for replica in self.replicas.values()]

    @abstractmethod
    async def _follow(self, part: list[Replica]) -> None:
        """Until the line breaks."""

    def _client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self._key}"}
        given: dict[str, Any] = {"timeout": SILENCE_S, "trust_env": False, "verify": False}  # there is no TLS to verify
        return httpx.AsyncClient(base_url=self._url, headers=headers, **given)

    def _refused(self, answer: httpx.Response) -> None:
        """A server that starts or stops may say 503; nothing else is in order."""
        if answer.status_code != 200:
            self.counts["refused"] += 1
            if answer.status_code != 503:
                next(iter(self.replicas.values())).faults.append(f"{answer.status_code} for {answer.url}")
            answer.raise_for_status()


class Poller(Follower):
    async def _follow(self, part: list[Replica]) -> None:
        (replica,) = part
        async with self._client() as client:
            while True:
                asked: dict[str, Any] = {
                    "after": replica.cursor,
                    "wait": WAIT_S,
                    "limit": self._chance.choice([3, 200]),
                }
                if replica.epoch is not None:
                    asked["epoch"] = replica.epoch
                answer = await client.get(f"/v1/projects/{replica.project}/changes", params=asked)
                self._refused(answer)
                found = answer.json()
                for change in found["changes"]:
                    replica.apply(change, found["epoch"])


class StreamReader(Follower):
    async def _follow(self, part: list[Replica]) -> None:
        (replica,) = part
        headers = {"Last-Event-ID": f"{replica.epoch}:{replica.cursor}"} if replica.epoch else {}
        path = f"/v1/projects/{replica.project}/changes/stream"
        async with (
            self._client() as client,
            client.stream("GET", path, params={"after": replica.cursor}, headers=headers) as answer,
        ):
            self._refused(answer)
            event: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(":")
                    event[name] = value.removeprefix(" ")
                    continue
                self._on(replica, event)
                event = {}

    def _on(self, replica: Replica, event: dict[str, str]) -> None:
        match event.get("event"):
            case "change":
                epoch, _, seq = event["id"].rpartition(":")
                change = json.loads(event["data"])
                assert change["seq"] == int(seq)
                replica.apply(change, epoch)
            case "must_refetch" | "gone" as lost:
                replica.faults.append(f"{lost} at {replica.cursor}")
            case _:
                pass


class SocketReader(Follower):
    """One socket for all its projects."""

    def _parts(self) -> list[list[Replica]]:
        return [list(self.replicas.values())]

    async def _follow(self, part: list[Replica]) -> None:
        address = f"{self._url.replace('http', 'ws', 1)}/realtime/v1/websocket?apikey={self._key}&vsn=2.0.0"
        given: dict[str, Any] = {"ping_interval": None, "compression": None, "max_size": 2**24, "close_timeout": 1}
        async with connect(address, proxy=None, open_timeout=SILENCE_S, **given) as ws:
            by_topic = {f"realtime:task-updates:{replica.project}": replica for replica in part}
            for number, (topic, replica) in enumerate(by_topic.items()):
                cursor = f"{replica.epoch}:{replica.cursor}" if replica.epoch else str(replica.cursor)
                config = {"broadcast": {"cursor": cursor, "events": ["change", "head", "gap"]}}
                await ws.send(json.dumps([str(number), str(number), topic, "phx_join", {"config": config}]))
            beating = asyncio.create_task(self._beat(ws))
            try:
                while True:
                    async with asyncio.timeout(SILENCE_S):
                        frame = json.loads(await ws.recv())
                    if not self._on(by_topic.get(frame[2]), frame[3], frame[4]):
                        return
            finally:
                beating.cancel()

    def _on(self, replica: Replica | None, event: str, payload: Json) -> bool:
        """False when it is to begin anew."""
        if replica is None:
            return True
        if event == "phx_error":
            self.counts["phx_error"] += 1
            return False
        if event == "phx_reply" and payload["status"] != "ok":
            self.counts["join refused"] += 1
            if not payload["response"]["reason"].startswith("UnableTo"):
                replica.faults.append(str(payload))
            return False
        if event == "broadcast" and payload["event"] == "change":
            replica.apply(payload["payload"], payload["payload"]["epoch"])
        if event == "broadcast" and payload["event"] == "gap":
            self.counts["gap"] += 1
            if payload["payload"]["must_refetch"]:
                replica.faults.append(str(payload))
        if event == "broadcast" and payload["event"] == "head" and payload["payload"]["seq"] != replica.cursor:
            replica.faults.append(f"the beat says {payload['payload']['seq']} at {replica.cursor}")
        return True

    async def _beat(self, ws: Any) -> None:
        with contextlib.suppress(OSError, WebSocketException):
            while True:
                await asyncio.sleep(BEAT_S)
                await ws.send(json.dumps([None, "b", "phoenix", "heartbeat", {}]))
