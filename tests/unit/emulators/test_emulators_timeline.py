"""A task waits, works and ends; nothing ever goes backwards except when it is requeued."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from safelight.emulators.timeline import STEPS, Phase, plan

seconds = st.floats(0, 100, allow_nan=False)


def test_the_queue_counts_down_and_then_the_work_counts_up():
    line = plan(1000.0, 10.0, 2.0, queue_length=3)
    assert [line.queue_position(1000 + at) for at in (0, 0.7, 1.4, 1.99)] == [3, 2, 1, 0]
    assert line.at(1001.9).phase is Phase.QUEUED
    assert line.at(1002.0).phase is Phase.RUNNING
    assert line.steps_done(1006.0) == STEPS // 2
    assert line.steps_done(2000.0) == STEPS


def test_a_requeued_task_falls_back_into_the_queue_once():
    line = plan(0.0, 10.0, 1.0, queue_length=3, requeued=True)
    assert [stretch.phase for stretch in line.stretches] == [
        Phase.QUEUED,
        Phase.RUNNING,
        Phase.QUEUED,
        Phase.RUNNING,
    ]
    assert line.planned_end_at == 10.0


@given(latency_s=seconds, queue_s=seconds, moments=st.lists(st.floats(0, 120), min_size=2))
def test_progress_never_goes_backwards(latency_s: float, queue_s: float, moments: list[float]):
    line = plan(0.0, latency_s, queue_s, queue_length=3)
    shown = [
        (
            line.at(at).phase is Phase.RUNNING,
            -line.queue_position(at) if line.at(at).phase is Phase.QUEUED else 0,
            line.steps_done(at),
        )
        for at in sorted(moments)
    ]
    assert shown == sorted(shown)
    assert line.planned_end_at <= max(latency_s, 0) + 1e-9
