"""The servers of the fan-out figure: each started on a core of its own, each with the same room in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.figures.fanout_plans import END, PAYLOAD, our_plan
from benchmarks.load.crowd import Plan, Way, frame, upgrade
from benchmarks.load.http import Address
from benchmarks.ours import Safelight
from benchmarks.processes import ROOT, NotReady, Program, data_dir, free_port, remove

PEERS: Final = ROOT / "benchmarks" / "peers" / "fanout"
CACHE: Final = ROOT / ".bench"


@dataclass(slots=True)
class Stack:
    """A running server, and how to get into its room."""

    plan: Plan
    program: Program
    home: Path
    ours: Safelight | None = None
    project: str = ""

    def stop(self) -> None:
        if self.ours is not None:
            self.ours.stop()
        else:
            self.program.stop()
        remove(self.home)


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    title: str
    start: Callable[[], Stack]
    missing: Callable[[], str | None] = field(default=lambda: None)
    """Why it cannot take part here, in words."""


def cores() -> tuple[frozenset[int], frozenset[int]]:
    """For the server, for the load. Empty where cores cannot be chosen, or there is but one."""
    if not hasattr(os, "sched_getaffinity"):
        return frozenset(), frozenset()
    able = sorted(os.sched_getaffinity(0))
    return (frozenset(able[:1]), frozenset(able[1:])) if len(able) > 1 else (frozenset(), frozenset())


@contextlib.contextmanager
def on(chosen: frozenset[int]) -> Iterator[None]:
    """What is started inside runs on these cores, with all its threads and children."""
    if not chosen:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# -- Safelight


def _ours() -> Stack:
    server = Safelight.start()
    try:
        project = str(server.ask("POST", "/v1/projects", {"name": "Fan-out"})["id"])
    except BaseException:
        server.stop()
        server.forget()
        raise
    return Stack(our_plan(server, f"bench:{project}"), server.program, server.home, server, project)


# -- peers


def _plain(name: str, command: Callable[[int], Sequence[str]], *, has_page: bool = True) -> Stack:
    home, port = data_dir(), free_port()
    address = Address("127.0.0.1", port)
    program = Program(name, command(port), home / "log")
    try:
        if has_page:
            program.wait_for_url(f"{address.url}/healthz")
        else:
            program.wait_for_port(port)
    except BaseException:
        program.stop()
        remove(home)
        raise
    listen, speak = (Way(upgrade(address, path), ((END, b""),)) for path in ("/sub", "/pub"))
    return Stack(Plan(address, listen, speak, frame(json.dumps({"text": PAYLOAD}))), program, home)


def _socket_io(name: str, command: Callable[[int], Sequence[str]]) -> Stack:
    stack = _plain(name, command)
    address = stack.plan.address

    def way(role: str) -> Way:
        return Way(
            upgrade(address, f"/socket.io/?EIO=4&transport=websocket&role={role}"),
            ((END, b""), (b'"sid"', frame("40")), (b'"sid"', b"")),
        )

    event = frame("42" + json.dumps(["say", {"text": PAYLOAD}]))
    stack.plan = Plan(address, way("sub"), way("pub"), event)
    return stack


def _uvicorn(app: str) -> Callable[[int], Sequence[str]]:
    return lambda port: (
        sys.executable, "-m", "uvicorn", f"benchmarks.peers.fanout.{app}:app", "--host", "127.0.0.1", "--port",
        str(port), "--loop", "uvloop", "--ws", "websockets-sansio", "--ws-per-message-deflate", "false",
        "--ws-ping-interval", "3600", "--no-access-log", "--log-level", "warning", "--backlog", "2048",
    )  # fmt: skip


def _node(script: str) -> Callable[[int], Sequence[str]]:
    return lambda port: ("node", str(_node_folder() / script), str(port))


def _node_folder() -> Path:
    """Our scripts beside their packages, installed as the lock says."""
    folder = CACHE / "fanout-node"
    folder.mkdir(parents=True, exist_ok=True)
    lock = PEERS / "package-lock.json"
    is_new = not (folder / "installed").exists() or (folder / lock.name).read_bytes() != lock.read_bytes()
    for name in ("package.json", lock.name, "ws.mjs", "socketio.mjs"):
        shutil.copyfile(PEERS / name, folder / name)
    if is_new:
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise NotReady(f"npm ci in {folder}: {done.stderr or done.stdout}")
        (folder / "installed").touch()
    return folder


def _floor() -> Sequence[str]:
    program = CACHE / "fanout-floor"
    source = PEERS / "floor.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([_compiler() or "cc", "-O2", "-o", str(program), str(source)], check=True)
    return (str(program),)


def _compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("cc")


def _without_compiler() -> str | None:
    if sys.platform != "linux":
        return "it uses epoll"
    return None if _compiler() else "there is no C compiler"


def _without_node() -> str | None:
    return None if shutil.which("node") and shutil.which("npm") else "there is no Node with npm"


CONTENDERS: Final[tuple[Contender, ...]] = (
    Contender(
        "floor", "C, one send() a message",
        lambda: _plain("floor", lambda port: (*_floor(), str(port)), has_page=False), _without_compiler,
    ),
    Contender("ours", "Safelight", _ours),
    Contender("ws", "Node ws", lambda: _plain("ws", _node("ws.mjs")), _without_node),
    Contender("socketio", "Node socket.io", lambda: _socket_io("socket.io", _node("socketio.mjs")), _without_node),
    Contender("fastapi", "FastAPI, uvicorn", lambda: _plain("fastapi", _uvicorn("fastapi_app"))),
    Contender("pysocketio", "python-socketio", lambda: _socket_io("python-socketio", _uvicorn("socketio_app"))),
)  # fmt: skip
