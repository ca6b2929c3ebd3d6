"""A function in a process of its own, with a pipe to it: the load must not share an interpreter with anything."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final

import uvloop

_spawn: Final = multiprocessing.get_context("spawn")


class LoadFailed(Exception):
    """The load side itself broke: nothing was measured."""


class Child:
    """`work(pipe, *args)` in a new process, which ends with the block."""

    def __init__(self, work: Callable[..., None], *args: Any) -> None:
        self.pipe, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=work, args=(theirs, *args), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Child:
        return self

    def expect(self, what: str, timeout_s: float) -> Any:
        """The value it reports under this name. Raises LoadFailed."""
        if not self.pipe.poll(timeout_s):
            raise LoadFailed(f"no {what!r} from the load side in {timeout_s:.0f} s")
        try:
            said, value = self.pipe.recv()
        except EOFError:
            raise LoadFailed(f"the load side died before {what!r}") from None
        if said != what:
            raise LoadFailed(value)
        return value

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(5)


def report(pipe: Pipe, name: str, work: Coroutine[Any, Any, Any]) -> None:
    """Run it and send what came of it."""
    try:
        pipe.send((name, uvloop.run(work)))
    except (EOFError, BrokenPipeError):
        return  # whoever measures has gone
    except Exception as error:
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
