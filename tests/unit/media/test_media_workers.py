"""CPU work is bounded (design rule 6)."""

import asyncio
import threading

import pytest

from safelight.media.errors import MediaBusy
from safelight.media.workers import CpuWorkers, close_cpu, run_cpu


async def test_work_runs_off_the_loop_and_returns_or_raises():
    assert await run_cpu(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await run_cpu(lambda: 1 // 0)
    close_cpu()
    assert await run_cpu(lambda x, y: x + y, 1, y=2) == 3
    close_cpu()


async def test_at_most_two_run_and_beyond_the_bound_callers_are_told():
    workers = CpuWorkers(threads=2, waiting_max=1)
    gate, running, peak = threading.Event(), [0], [0]
    lock = threading.Lock()

    def work():
        with lock:
            running[0] += 1
            peak[0] = max(peak[0], running[0])
        gate.wait(30)
        with lock:
            running[0] -= 1

    tasks = [asyncio.create_task(workers.run(work)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(MediaBusy) as caught:
        await workers.run(work)
    assert caught.value.retryable
    gate.set()
    await asyncio.gather(*tasks)
    assert peak[0] <= 2
    assert await workers.run(lambda: 7) == 7
    workers.close()


async def test_a_cancelled_caller_frees_its_place_when_the_work_ends():
    workers = CpuWorkers(threads=1, waiting_max=0)
    gate = threading.Event()
    task = asyncio.create_task(workers.run(gate.wait, 30))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    for _ in range(1000):
        try:
            assert await workers.run(lambda: 1) == 1
            break
        except MediaBusy:
            await asyncio.sleep(0.01)
    else:
        pytest.fail("the place was never freed")
    workers.close()
