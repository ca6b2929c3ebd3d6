"""The life of a job is one table, and the migration holds the same (J3)."""

from __future__ import annotations

import re
from importlib import resources

from safelight.jobs.lifecycle import AT_PROVIDER, STATUS, TERMINAL, TRANSITIONS, Stage, Status, may, sources

MIGRATION = (resources.files("safelight.db") / "migrations" / "0003_jobs.sql").read_text()


def test_the_migration_names_the_same_steps():
    said = dict(line.split(">") for line in re.findall(r"'(\w+>[\w,]+)'", MIGRATION))
    assert {source: set(targets.split(",")) for source, targets in said.items()} == {
        source.value: {target.value for target in targets} for source, targets in TRANSITIONS.items() if targets
    }


def test_the_migration_names_the_same_stages():
    (listed,) = re.findall(r"check \(stage in\s*\(([^)]*)\)\)", MIGRATION)
    assert set(re.findall(r"\w+", listed)) == {stage.value for stage in Stage}


def test_every_stage_has_a_status_and_its_steps():
    assert set(STATUS) == set(TRANSITIONS) == set(Stage)
    assert set(STATUS.values()) == set(Status)


def test_every_unfinished_stage_leads_to_success_and_to_failure():
    for stage in set(Stage) - TERMINAL:
        reachable, frontier = set(), {stage}
        while frontier:
            reachable |= frontier
            frontier = {target for each in frontier for target in TRANSITIONS[each]} - reachable
        assert {Stage.COMPLETED, Stage.FAILED} <= reachable


def test_a_completed_job_stays_completed():
    assert TRANSITIONS[Stage.COMPLETED] == frozenset()


def test_only_a_retry_leads_out_of_an_end():
    for stage in TERMINAL - {Stage.COMPLETED}:
        assert TRANSITIONS[stage] == {Stage.QUEUED}


def test_a_result_that_exists_is_not_thrown_away_for_a_cancel_or_a_deadline():
    assert not may(Stage.STORING, Stage.CANCELED)
    assert not may(Stage.STORING, Stage.EXPIRED)


def test_sources_is_the_table_read_backwards():
    for target in Stage:
        assert sources(target) == {source for source in Stage if may(source, target)}
    assert sources(Stage.SUBMITTED) == {Stage.SUBMITTING, Stage.UNKNOWN}
    assert sources(Stage.COMPLETED) > AT_PROVIDER
