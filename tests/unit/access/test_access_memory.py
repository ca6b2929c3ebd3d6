"""Hot paths cost no query, floods cost few, and what was revoked is forgotten in time (S6, O4)."""

from __future__ import annotations

import asyncio

import pytest
from access_world import SetClock

from safelight.access.errors import Unavailable
from safelight.access.memory import LOOKS_MAX, WAITING_MAX, Memory


class Source:
    """Where answers come from; counts how often it was asked and how many asked at once."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.at_once = 0
        self.at_once_most = 0
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def look(self, key: str) -> str | None:
        self.asked.append(key)
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        try:
            answer = self.answers.get(key)
            await self.open.wait()
            if self.error:
                raise self.error
            return answer
        finally:
            self.at_once -= 1


async def asking(memory: Memory[str, str], source: Source, key: str) -> str | None:
    return await memory.get(key, lambda: source.look(key))


async def until_asked(source: Source, times: int) -> None:
    async with asyncio.timeout(10):
        while len(source.asked) < times:
            await asyncio.sleep(0)


@pytest.mark.parametrize("key", ["known", "unknown"])
async def test_the_same_question_is_asked_once_in_five_seconds(key: str) -> None:
    clock, source = SetClock(), Source(known="yes")
    memory: Memory[str, str] = Memory(clock)
    for _ in range(3):
        answers = [await asking(memory, source, key) for _ in range(10)]
        assert set(answers) == {source.answers.get(key)}
        clock.forward(seconds=5)
    assert source.asked == [key] * 3


async def test_a_clock_that_is_set_back_makes_no_answer_last() -> None:
    clock, source = SetClock(), Source(known="yes")
    memory: Memory[str, str] = Memory(clock)
    await asking(memory, source, "known")
    clock.forward(hours=-1)
    await asking(memory, source, "known")
    assert len(source.asked) == 2


async def test_a_hundred_who_ask_the_same_at_once_cost_one_look() -> None:
    source = Source(known="yes")
    memory: Memory[str, str] = Memory(SetClock())
    assert set(await asyncio.gather(*(asking(memory, source, "known") for _ in range(100)))) == {"yes"}
    assert source.asked == ["known"]


async def test_if_the_one_who_looks_is_canceled_the_others_still_get_their_answer() -> None:
    source = Source(known="yes")
    source.open.clear()
    memory: Memory[str, str] = Memory(SetClock())
    first = asyncio.create_task(asking(memory, source, "known"))
    await until_asked(source, 1)
    others = [asyncio.create_task(asking(memory, source, "known")) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    source.open.set()
    assert set(await asyncio.gather(*others)) == {"yes"}


async def test_a_failed_look_is_not_remembered() -> None:
    source = Source(known="yes")
    source.error = OSError("away")
    memory: Memory[str, str] = Memory(SetClock())
    with pytest.raises(OSError):
        await asking(memory, source, "known")
    source.error = None
    assert await asking(memory, source, "known") == "yes"


async def test_made_up_keys_do_not_push_out_known_ones_nor_grow_without_bound() -> None:
    source = Source(known="yes")
    memory: Memory[str, str] = Memory(SetClock(), size_max=10)
    await asking(memory, source, "known")
    for number in range(100):
        assert await asking(memory, source, f"made-up-{number}") is None
    assert len(memory) == 11
    await asking(memory, source, "known")
    assert source.asked.count("known") == 1


async def test_known_answers_are_bounded_too_and_the_oldest_goes_first() -> None:
    source = Source(**{f"k{number}": "yes" for number in range(20)})
    memory: Memory[str, str] = Memory(SetClock(), size_max=10)
    for number in range(20):
        await asking(memory, source, f"k{number}")
    assert len(memory) == 10
    await asking(memory, source, "k19")
    await asking(memory, source, "k0")
    assert source.asked[20:] == ["k0"]


async def test_a_flood_of_questions_takes_few_connections_and_then_is_turned_away() -> None:
    source = Source()
    source.open.clear()
    memory: Memory[str, str] = Memory(SetClock())
    flood = [asyncio.create_task(asking(memory, source, f"made-up-{n}")) for n in range(WAITING_MAX)]
    await until_asked(source, LOOKS_MAX)
    with pytest.raises(Unavailable) as caught:
        await asking(memory, source, "one more")
    assert caught.value.retry_after_s
    source.open.set()
    assert set(await asyncio.gather(*flood)) == {None}
    assert source.at_once_most == LOOKS_MAX
    assert await asking(memory, source, "one more") is None


async def test_what_is_forgotten_is_looked_up_again_even_if_a_look_was_under_way() -> None:
    source = Source(known="before")
    source.open.clear()
    memory: Memory[str, str] = Memory(SetClock())
    under_way = asyncio.create_task(asking(memory, source, "known"))
    await until_asked(source, 1)
    source.answers["known"] = "after"
    memory.forget()
    source.open.set()
    assert await asking(memory, source, "known") == "after"
    assert await under_way == "before"
    assert await asking(memory, source, "known") == "after"
    assert source.asked == ["known", "known"]
