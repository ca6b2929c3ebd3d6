"""The Python client when the line to a real server breaks in the middle of everything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from broken_line import BrokenLine
from PIL import Image

from safelight.sdk import DownloadFailed, Safelight, Unreachable

PATIENCE_S = 120


@pytest.fixture
def line(demo) -> Iterator[BrokenLine]:
    line = BrokenLine(demo.url)
    yield line
    line.close()


@pytest.fixture
def client(demo, line: BrokenLine) -> Iterator[Safelight]:
    with Safelight(line.url, demo.secret_key, demo.project_id) as connected:
        yield connected


def test_a_submit_whose_answer_is_lost_is_one_job_and_one_charge(client: Safelight, line: BrokenLine) -> None:
    tag = uuid4().hex
    line.cut(after=0, times=3)
    job = client.submit("local/aurora", {"prompt": "once"}, tags=[tag])

    assert line.broken == 3
    assert [each.id for each in client.jobs.list(tag=tag).items] == [job.id]
    job.wait(PATIENCE_S)


def test_a_wait_outlives_streams_that_break(client: Safelight, line: BrokenLine) -> None:
    job = client.submit("local/aurora", {"prompt": "patience"}, n=4)
    line.cut(after=200, times=4)
    assert job.wait(PATIENCE_S).status == "completed"
    assert line.broken > 0


def test_a_download_that_breaks_off_goes_on_where_it_was(client: Safelight, line: BrokenLine, tmp_path: Path) -> None:
    [result] = client.submit("local/aurora", {"prompt": "large"}).wait(PATIENCE_S).results()
    assert result.bytes
    whole = client.download(result, tmp_path / "whole")

    line.cut(after=result.bytes // 3, times=2)
    path = client.download(result, tmp_path / "broken")
    assert line.broken == 2
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(whole.read_bytes()).digest()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_download_that_never_gets_through_leaves_nothing_behind(
    client: Safelight, line: BrokenLine, tmp_path: Path
) -> None:
    [result] = client.submit("local/aurora", {"prompt": "never"}).wait(PATIENCE_S).results()
    line.cut(after=0, times=1000)
    with pytest.raises((DownloadFailed, Unreachable)):
        client.download(result, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_change_is_missed_or_doubled_over_a_line_that_keeps_breaking(
    client: Safelight, line: BrokenLine, demo
) -> None:
    start = client.head()
    with Safelight(demo.url, demo.secret_key, demo.project_id) as direct:
        jobs = [direct.submit("local/aurora", {"prompt": f"number {n}"}) for n in range(5)]
        line.cut(after=900, times=6)
        open_jobs = {str(job.id) for job in jobs}
        heard: list[int] = []
        for change in client.changes(after=start):
            heard.append(change.seq)
            if change.table == "jobs" and change.row and change.row["status"] == "completed":
                open_jobs.discard(change.id)
            if not open_jobs:
                break
    assert heard == list(range(start.seq + 1, heard[-1] + 1))
    assert line.broken > 0


def test_an_upload_that_breaks_off_goes_on_where_it_was(client: Safelight, line: BrokenLine, tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    Image.effect_noise((900, 900), 90 + uuid4().int % 100).convert("RGB").save(path)
    line.cut(after=0, times=2)
    upload = client.upload(path)
    assert (upload.state, upload.bytes) == ("ready", path.stat().st_size)
    assert line.broken == 2
