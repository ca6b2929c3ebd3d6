"""Claims that wait: a hint wakes one that wants it, and whoever gets something wakes the next (P3)."""

from __future__ import annotations

import contextlib
from uuid import uuid4

import pytest

from safelight.jobs.errors import TooManyWait
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


def test_so_many_claims_wait_and_no_more():
    waiters, crowded = Waiters(most=4, most_of_project=2), uuid4()
    with contextlib.ExitStack() as stack:
        for project in (crowded, crowded, None):
            stack.enter_context(waiters.waiting(Waiter(project, frozenset("a"))))
        with pytest.raises(TooManyWait), waiters.waiting(Waiter(crowded, frozenset("a"))):
            pytest.fail("the third of a project was let in")
        stack.enter_context(waiters.waiting(Waiter(uuid4(), frozenset("a"))))
        with pytest.raises(TooManyWait), waiters.waiting(Waiter(None, frozenset("a"))):
            pytest.fail("the fifth of all was let in")
    assert (len(waiters), dict(waiters._of_project)) == (0, {})
