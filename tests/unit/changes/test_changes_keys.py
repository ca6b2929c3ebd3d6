"""The invalidation map: which cached answers a change makes old (F1)."""

from __future__ import annotations

from safelight.changes.keys import FAMILIES, keys_for

P = "0197a000-0000-7000-8000-000000000001"
S1, S2 = "0197a000-0000-7000-8000-0000000000a1", "0197a000-0000-7000-8000-0000000000a2"


def test_a_new_job_makes_the_task_list_and_the_counts_old():
    assert keys_for("jobs", "insert", P, {"status": "pending"}, None) == [["tasks", P], ["task-status-counts", P]]


def test_a_job_that_only_moves_inside_its_status_leaves_the_counts_alone():
    row, old = {"status": "processing", "stage": "running"}, {"status": "processing", "stage": "submitted"}
    assert keys_for("jobs", "update", P, row, old) == [["tasks", P]]
    assert ["task-status-counts", P] in keys_for("jobs", "update", P, {"status": "completed"}, old)


def test_a_star_is_seen_in_the_project_and_in_every_shot_that_shows_the_picture():
    shots = [{"shot_id": S1, "position": "a0"}, {"shot_id": S2, "position": None}]
    row = {"starred": True, "shots": shots, "deleted_at": None, "kind": "image"}
    keys = keys_for("generations", "update", P, row, {"starred": False, "shots": shots, "deleted_at": None})
    assert keys == [
        ["unified-generations", "project", P],
        ["unified-generations", "shot", S1],
        ["unified-generations", "shot", S2],
    ]


def test_a_deleted_video_changes_the_counts_of_its_shots_and_of_the_project():
    shots = [{"shot_id": S1, "position": None}]
    row = {"deleted_at": "2026-01-01T00:00:00Z", "shots": shots, "kind": "video", "starred": False}
    keys = keys_for("generations", "update", P, row, {"deleted_at": None, "shots": shots, "starred": False})
    for key in (
        ["unified-generations", "project", P],
        ["unified-generations", "shot", S1],
        ["unpositioned-count", S1],
        ["shots", P],
        ["project-video-counts", P],
    ):
        assert key in keys


def test_a_picture_that_leaves_a_shot_touches_the_shot_it_left_and_the_one_it_entered():
    row, old = {"shot_id": S2, "position": None}, {"shot_id": S1, "position": "a0"}
    keys = keys_for("shot_generations", "update", P, row, old)
    for shot in (S1, S2):
        assert ["unified-generations", "shot", shot] in keys
        assert ["unpositioned-count", shot] in keys
    assert ["shots", P] in keys


def test_a_removed_association_is_known_from_the_row_before():
    keys = keys_for("shot_generations", "delete", P, None, {"shot_id": S1, "position": None})
    assert ["unpositioned-count", S1] in keys


def test_a_column_that_was_not_kept_counts_as_changed():
    assert ["task-status-counts", P] in keys_for("jobs", "update", P, {"status": "pending"}, None)


def test_canvas_and_credits_have_one_key_each_and_other_tables_none():
    assert keys_for("nodes", "insert", P, {}, None) == keys_for("edges", "delete", P, None, {}) == [["nodes", P]]
    assert keys_for("credits", "update", P, {}, {}) == [["credits", P]]
    assert keys_for("somebody_elses_table", "insert", P, {}, None) == []


def test_every_key_of_every_rule_belongs_to_a_family_of_the_contract_and_comes_once():
    row = {"id": S1, "shot_id": S1, "shots": [{"shot_id": S1}, {"shot_id": S1}], "kind": "video"}
    seen = set()
    for table in ("jobs", "generations", "shots", "shot_generations", "nodes", "edges", "credits", "projects"):
        for op in ("insert", "update", "delete"):
            keys = keys_for(table, op, P, None if op == "delete" else row, row if op == "delete" else None)
            assert len(keys) == len({tuple(key) for key in keys})
            seen |= {key[0] for key in keys}
    assert seen == set(FAMILIES)
