"""Faults are drawn as asked, repeatably, and asking for what does not exist is said."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from safelight.emulators.faults import FaultBook, FaultError, parse_rule


def draw(rule: object, times: int, seed: int = 1) -> list[str | None]:
    book = FaultBook(seed)
    book.set(parse_rule(rule))
    return [book.resolve(None).webhook for _ in range(times)]


def test_without_probabilities_a_fault_strikes_every_request():
    assert draw({"webhook": "lost"}, 5) == ["lost"] * 5


def test_a_probability_makes_a_fault_strike_about_that_often():
    struck = Counter(draw({"webhook": "lost", "probability": {"webhook": 0.3}}, 2000))
    assert 480 < struck["lost"] < 720


def test_a_map_of_probabilities_mixes_values_of_one_fault():
    rule = {"probability": {"webhook": {"lost": 0.3, "late": 0.3, "double": 0.2}}, "seed": 5}
    struck = Counter(draw(rule, 3000))
    assert 780 < struck["lost"] < 1020
    assert 780 < struck["late"] < 1020
    assert 480 < struck["double"] < 720
    assert 480 < struck[None] < 720


def test_weighted_sets_are_drawn_by_weight():
    rule = {"weighted": [{"weight": 3, "faults": {"webhook": "lost"}}, {"weight": 1, "faults": {"webhook": "late"}}]}
    struck = Counter(draw(rule, 2000))
    assert 1380 < struck["lost"] < 1620
    assert struck["lost"] + struck["late"] == 2000


def test_the_same_seed_gives_the_same_faults_in_the_same_order():
    rule = {"probability": {"webhook": {"lost": 0.5}}, "seed": 11}
    assert draw(rule, 50, seed=1) == draw(rule, 50, seed=2)


def test_a_requests_own_word_wins_over_the_rule_for_all():
    book = FaultBook(0)
    book.set(parse_rule({"webhook": "lost", "latency_s": 0.5}))
    faults = book.resolve({"webhook": "double"})
    assert (faults.webhook, faults.latency_s) == ("double", 0.5)


def test_a_request_can_ask_for_a_good_day():
    book = FaultBook(0)
    book.set(parse_rule({"webhook": "lost"}))
    assert book.resolve({"webhook": None}).webhook is None


@pytest.mark.parametrize(
    "rule",
    [
        [],
        "lost",
        {"webhook": "eaten"},
        {"no_such": 1},
        {"latency_s": -1},
        {"latency_s": 1e9},
        {"probability": {"webhook": 0.5}},
        {"probability": {"webhook": {"eaten": 0.5}}},
        {"probability": {"webhook": {"lost": 0.7, "late": 0.7}}},
        {"probability": {"nothing": {"lost": 0.7}}},
        {"weighted": [{"weight": 0, "faults": {}}]},
        {"weighted": [{"weight": 1, "faults": {"webhook": "eaten"}}]},
    ],
)
def test_faults_that_do_not_exist_are_refused(rule: object):
    with pytest.raises(FaultError):
        parse_rule(rule)


def test_a_refusal_names_what_there_is():
    with pytest.raises(FaultError, match="lost, late, double"):
        FaultBook(0).resolve({"webhook": "eaten"})


def test_a_refusing_fault_strikes_so_many_times_and_then_lets_in():
    book = FaultBook(0)
    assert [book.spend("a", 2) for _ in range(4)] == [True, True, False, False]
    assert book.spend("b", 2)


def test_counters_of_refusals_do_not_grow_without_bound():
    book = FaultBook(0)
    for number in range(25_000):
        book.spend(str(number), 1)
    assert len(book._counts) <= 10_000


def test_no_draw_is_made_for_an_absent_rule():
    random = Random(3)
    before = random.getstate()
    assert parse_rule({}).draw(random) == {}
    assert random.getstate() == before
