"""Claims that wait: a hint wakes one that wants it, and whoever gets something wakes the next (P3)."""

from __future__ import annotations

from uuid import uuid4

from safelight.jobs.pull_waiters import Waiter, Waiters


def waiters_of(*waiting: Waiter) -> Waiters:
    waiters = Waiters()
    for each in waiting:
        waiters._waiting[each] = None
    return waiters


def test_one_hint_wakes_the_first_that_wants_it():
    mine, theirs = uuid4(), uuid4()
    other_model, other_project = Waiter(mine, frozenset({"b"})), Waiter(theirs, frozenset({"a"}))
    first, second = Waiter(mine, frozenset({"a"})), Waiter(mine, frozenset({"a"}))
    anybody = Waiter(None, frozenset({"a"}))
    waiters = waiters_of(other_model, other_project, first, second, anybody)
    woken = []
    for _ in range(4):
        waiters.wake(mine, "a")
        woken.append([each.woken.is_set() for each in (first, second, anybody)])
    assert woken == [[True, False, False], [True, True, False], [True, True, True], [True, True, True]]
    assert not other_model.woken.is_set()
    assert not other_project.woken.is_set()


def test_whoever_leaves_is_out_and_closing_wakes_all():
    waiters, one, two = Waiters(), Waiter(None, frozenset("a")), Waiter(None, frozenset("b"))
    with waiters.waiting(one):
        with waiters.waiting(two):
            assert len(waiters) == 2
        waiters.wake_all()
        assert one.woken.is_set()
        assert not two.woken.is_set()
        waiters.close()
    assert waiters.is_closed
    assert len(waiters) == 0
    two.leave()
    assert two.is_gone
