"""What a person sees of a job in a terminal and in a notebook."""

from __future__ import annotations

import io
from uuid import UUID

import msgspec
import pytest

from safelight.sdk.notebook import job_html
from safelight.sdk.resources import Failure, Generation, JobInfo, Progress, Urls
from safelight.sdk.show import bar, words

ID = UUID("0197f6f0-0000-7000-8000-000000000001")
JOB = msgspec.convert(
    {
        "id": str(ID),
        "project_id": str(ID),
        "status": "processing",
        "stage": "running",
        "model": "local/aurora",
        "credits": {"quoted": 5},
        "created_at": "2026-01-01T00:00:00Z",
    },
    JobInfo,
)


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress(), ""),
        (Progress(queue_position=3), "3 ahead"),
        (Progress(percent=40.4, eta_s=12.6), "40 %, about 13 s left"),
        (Progress(eta_s=0.2), ""),
        (Progress(percent=0.0), "0 %"),
    ],
)
def test_only_what_is_known_is_said(progress: Progress, said: str) -> None:
    assert words(msgspec.structs.replace(JOB, progress=progress)) == said


def test_where_there_is_no_terminal_nothing_is_drawn() -> None:
    out = io.StringIO()
    with bar(JOB, out) as draw:
        draw(JOB)
    assert out.getvalue() == ""


def test_a_notebook_shows_pictures_and_clips() -> None:
    picture = Generation(
        id=ID, project_id=ID, kind="image", prompt='a "fox"', urls=Urls(original="http://x/a.png?s=1&t=2")
    )
    clip = Generation(id=ID, project_id=ID, kind="video", urls=Urls(original="http://x/b.mp4"))
    shown = job_html(JOB, [picture, clip])
    assert '<img src="http://x/a.png?s=1&amp;t=2" alt="a &quot;fox&quot;"' in shown
    assert '<video src="http://x/b.mp4" controls' in shown


def test_a_notebook_shows_why_there_is_none_and_runs_no_script_of_anybodys() -> None:
    failed = msgspec.structs.replace(JOB, stage="failed", error=Failure(code="x", message="<script>alert(1)</script>"))
    evil = Generation(id=ID, project_id=ID, urls=Urls(original="javascript:alert(1)"))
    for shown in (job_html(failed, []), job_html(failed, [evil])):
        assert "<script" not in shown
        assert "javascript" not in shown
        assert "local/aurora" in shown
