"""Which tile a result becomes (api.md)."""

from __future__ import annotations

import uuid

from safelight.jobs.settle import generation_id


def test_a_tiles_id_is_known_before_its_result():
    job = uuid.UUID("0197a6a0-0000-7000-8000-000000000001")
    assert generation_id(job, 0) == uuid.uuid5(job, "0")
    assert len({generation_id(job, index) for index in range(100)}) == 100
