"""A job with a picture in its input is told to every window without the picture (S1, S7)."""

from __future__ import annotations

import base64
import json
import random
from typing import Any
from uuid import UUID

from httpx_sse import aconnect_sse
from realtime_world import Wire, World

PICTURE = "data:image/png;base64," + base64.b64encode(random.Random(7).randbytes(1_500_000)).decode()
JOBS = {"event": "*", "schema": "public", "table": "jobs"}


async def told(wire: Wire) -> list[Any]:
    """The first job that the window is told of, in each of the three ways."""
    rows: dict[str, Any] = {}
    while len(rows) < 3:
        frame = (await wire.next())[3:]
        match frame:
            case ["broadcast", {"event": "change", "payload": {"table": "jobs", "row": row}}]:
                rows["change"] = row
            case ["broadcast", {"event": "task-update", "payload": row}]:
                rows["task-update"] = row
            case ["postgres_changes", {"data": {"record": row, "columns": columns}}]:
                assert {"name": "left_out", "type": "_text"} in columns
                rows["postgres_changes"] = row
    return list(rows.values())


async def test_windows_are_told_of_the_job_at_once_and_read_the_picture_where_they_want_it(world: World) -> None:
    async with world.http() as api, world.socket(world.secret_key) as wire:
        _, system = await wire.join(world.topic, postgres_changes=[JOBS])
        await api.post(f"/v1/projects/{world.project}/credits/grants", json={"amount": 1_000, "key": "start"})
        asked = {"model": "local/aurora", "input": {"prompt": "a red fox", "width": 64, "reference": PICTURE}}
        answer = await api.post(f"/v1/projects/{world.project}/jobs", json=asked)
        assert answer.status_code == 202, answer.text
        job = answer.json()
        assert len(answer.content) < 10_000
        for row in await told(wire):
            assert row["input"] == job["input"]
            assert row["input"]["prompt"] == "a red fox"
            assert row["left_out"] == ["input"]
        assert max(len(json.dumps(frame)) for frame in wire.seen) < 10_000

        stream = f"/v1/projects/{world.project}/changes/stream?after={system['seq']}"
        async with aconnect_sse(api, "GET", stream) as source:
            async for event in source.aiter_sse():
                assert len(event.data) < 10_000
                if event.event == "change" and json.loads(event.data)["table"] == "jobs":
                    break
        whole = (await api.get(f"/v1/jobs/{job['id']}")).json()
        assert whole["input"]["reference"] == PICTURE

    # Nor does its end bring the picture back.
    await world.value("delete from jobs where id = $1 returning 1", UUID(job["id"]))
    size = "select octet_length(old::text) from changes where tbl = 'jobs' and op = 'delete'"
    assert await world.value(size) < 10_000
    assert await world.value("select count(*) from job_inputs") == 0
