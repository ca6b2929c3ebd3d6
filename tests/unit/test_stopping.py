"""What is told to end does, though a library loses the cancel."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from safelight import stopping
from safelight.stopping import end, side_by_side


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "AGAIN_S", 0.01)


class Going:
    """Goes on for ever, and loses so many cancels first."""

    def __init__(self, loses: int = 0) -> None:
        self.loses = loses
        self.has_begun = asyncio.Event()

    async def run(self) -> None:
        self.has_begun.set()
        while self.loses:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            self.loses -= 1
        await asyncio.Event().wait()


@pytest.mark.parametrize("loses", [0, 1, 3])
async def test_a_task_that_loses_cancels_is_told_until_it_ends(loses: int) -> None:
    going = Going(loses)
    task = asyncio.create_task(going.run())
    await going.has_begun.wait()
    async with asyncio.timeout(60):
        await end(task, None)
    assert task.cancelled()


async def test_what_ends_with_an_error_has_ended() -> None:
    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ConnectionResetError

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await end(task)
    assert isinstance(task.exception(), ConnectionResetError)


async def test_who_is_canceled_while_it_ends_others_passes_it_on_and_leaves_nobody_behind() -> None:
    going = Going(loses=1)
    task = asyncio.create_task(going.run())
    await going.has_begun.wait()
    ending = asyncio.create_task(end(task, again_s=3600.0))
    while going.loses:  # it has lost the first
        await asyncio.sleep(0)
    ending.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait([ending])
    assert ending.cancelled()
    assert task.cancelled()


@pytest.mark.parametrize("loses", [0, 1, 3])
async def test_parts_side_by_side_end_though_one_loses_the_cancel(loses: int) -> None:
    parts = [Going(), Going(loses), Going()]
    # In a group of its own, as the server's parts are in theirs.
    task = asyncio.create_task(side_by_side(side_by_side(*(part.run() for part in parts)), Going().run()))
    for part in parts:
        await part.has_begun.wait()
    task.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait([task])
    assert task.cancelled()
    assert parts[1].loses == 0


async def test_a_part_that_fails_ends_the_others_and_its_error_is_told() -> None:
    other = Going(loses=1)

    async def failing() -> None:
        await other.has_begun.wait()
        raise LookupError

    async with asyncio.timeout(60):
        with pytest.raises(ExceptionGroup) as caught:
            await side_by_side(other.run(), failing())
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    assert other.loses == 0


async def test_a_part_that_is_over_does_not_end_the_others() -> None:
    over, other = asyncio.Event(), Going()

    async def short() -> None:
        over.set()

    task = asyncio.create_task(side_by_side(short(), other.run()))
    await over.wait()
    await other.has_begun.wait()
    assert not task.done()
    await end(task)
