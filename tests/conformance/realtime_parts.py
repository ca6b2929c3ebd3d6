"""What the realtime conformance tests share: the installation of the integration tests, and a Node process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "integration" / "realtime"))

from realtime_world import DEADLINE_S, World, a_world

__all__ = ["DEADLINE_S", "REALTIME_NODE", "Node", "World", "a_world", "install_realtime_clients", "node_process"]

REALTIME_NODE = Path(__file__).parent / "node_realtime"
INSTALL_S = 240
Json = dict[str, Any]


def install_realtime_clients() -> str:
    """The path of `node`, with the locked clients installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node is not None, "conformance tests need Node 20 or newer"
    assert npm is not None, "conformance tests need npm"
    if not (REALTIME_NODE / "node_modules" / ".package-lock.json").exists():
        done = subprocess.run([npm, "ci"], cwd=REALTIME_NODE, capture_output=True, text=True, timeout=INSTALL_S)
        assert done.returncode == 0, done.stderr
    return node


class Node:
    """A process with the official clients; `do` a command, then `wait` for what its channels say."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.said: list[Json] = []
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def do(self, command: str, **args: Any) -> Any:
        self._count += 1
        answer = self._answers[self._count] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": self._count, "command": command, **args}).encode() + b"\n")
        async with asyncio.timeout(DEADLINE_S):
            return await answer

    async def wait(self, fits: Callable[[Json], bool], what: str = "", after: int = 0) -> Json:
        """The first thing said (from the `after`-th on) that fits."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    self._news.clear()
                    for said in self.said[after:]:
                        if fits(said):
                            return said
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"never said: {what}; but {self.said[-10:]}") from None

    async def status(self, channel: str, status: str, after: int = 0) -> Json:
        return await self.wait(
            lambda said: said.get("channel") == channel and said.get("status") == status, f"{channel} {status}", after
        )

    async def event(self, channel: str, on: str, after: int = 0, **payload: Any) -> Json:
        """The payload of the first event of this kind whose payload has these values."""

        def fits(said: Json) -> bool:
            found = said.get("payload") or {}
            is_it = said.get("channel") == channel and said.get("on") == on
            return is_it and all(found.get(key) == value for key, value in payload.items())

        return (await self.wait(fits, f"{channel} {on} {payload}", after))["payload"]

    async def subscribed(self, name: str) -> None:
        await self.do("subscribe", name=name)
        await self.status(name, "SUBSCRIBED")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if "id" in said:
                answer = self._answers.pop(said["id"])
                if "error" in said:
                    answer.set_exception(AssertionError(said["error"]))
                else:
                    answer.set_result(said["value"])
            else:
                self.said.append(said)
                self._news.set()

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._reader.cancel()
        failed = [said["failed"] for said in self.said if "failed" in said]
        assert not failed, failed


@contextlib.asynccontextmanager
async def node_process() -> AsyncIterator[Node]:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        install_realtime_clients(),
        "driver.cjs",
        cwd=REALTIME_NODE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        limit=2**24,
    )
    node = Node(process)
    try:
        yield node
    finally:
        await node.close()
