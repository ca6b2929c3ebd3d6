"""The life of a real process: it starts on nothing, stops in order, and comes back after SIGKILL (issue 2, 2)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from served import SAFELIGHT, Served, a_key, client, environment, postgres_pid, until

ENDS = ("completed", "failed", "canceled")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="safelight-served-"))
    path.chmod(0o755)  # as root, the database's own account must reach it
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def served(folder: Path) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def make(name: str = "server", **environ: str) -> Served:
        made.append(Served(folder / "data", name, **environ))
        return made[-1]

    yield make
    for each in made:
        each.clean_up()
    assert postgres_pid(folder) is None, "the embedded PostgreSQL was left running"


def project_of(api: httpx.Client, credits: int = 1000) -> str:
    project = api.post("/v1/projects", json={"name": "A"}).raise_for_status().json()["id"]
    api.post(f"/v1/projects/{project}/credits/grants", json={"amount": credits, "key": "a"}).raise_for_status()
    return project


def submit(api: httpx.Client, project: str, **given: object) -> str:
    body = {"model": "local/aurora", "input": {"prompt": "a red fox", "width": 64, "height": 64}, **given}
    return api.post(f"/v1/projects/{project}/jobs", json=body).raise_for_status().json()["id"]


def ended(api: httpx.Client, job: str) -> dict:
    def look() -> dict | None:
        found = api.get(f"/v1/jobs/{job}").raise_for_status().json()
        return found if found["status"] in ENDS else None

    return until(look, f"job {job} to end")


class Reader(threading.Thread):
    """A client that holds an answer open; keeps what came and how it ended."""

    def __init__(self, api: httpx.Client, path: str) -> None:
        super().__init__(daemon=True)
        self._api, self._path = api, path
        self.began = threading.Event()
        self.received = b""
        self.status = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with self._api.stream("GET", self._path) as answer:
                self.status = answer.status_code
                for chunk in answer.iter_raw():
                    self.received += chunk
                    self.began.set()
        except Exception as error:
            self.error = error
        self.began.set()


def test_sigterm_ends_streams_and_waits_politely_and_stops_the_database(served, folder: Path) -> None:
    server = served().start().ready()
    key = a_key(folder / "data")
    with client(server.url, key) as api, client(server.url, key) as one, client(server.url, key) as two:
        project = project_of(api)
        head = api.get(f"/v1/projects/{project}/changes").json()["head"]
        stream = Reader(one, f"/v1/projects/{project}/changes/stream")
        waiting = Reader(two, f"/v1/projects/{project}/changes?after={head}&wait=25")
        stream.start()
        waiting.start()
        assert stream.began.wait(60)
        until(lambda: b"event: head" in stream.received, "the stream's first beat")
        assert postgres_pid(folder) is not None

        server.terminate()
        assert server.ended() == 0, server.said()
        for reader in (stream, waiting):
            reader.join(60)
            assert not reader.is_alive()
            assert reader.error is None, "the answer ended as a whole one does"
            assert reader.status == 200
        assert stream.received.rstrip().rpartition(b"\n")[2].startswith(b"retry: "), "it says when to come again"
        assert b'"changes":[]' in waiting.received
    assert postgres_pid(folder) is None
    assert [line for line in server.lines() if line.get("level") in ("error", "critical")] == []


def test_what_was_made_is_there_after_a_restart_and_what_was_begun_is_finished(served, folder: Path) -> None:
    server = served().start().ready()
    key = a_key(folder / "data")
    with client(server.url, key) as api:
        project = project_of(api)
        first = ended(api, submit(api, project))
        assert first["status"] == "completed"
        clip = {"model": "local/drift", "input": {"prompt": "a fox", "duration": 2}}
        begun = [submit(api, project, **clip), submit(api, project, n=4)]
    assert server.stop() == 0, server.said()
    assert postgres_pid(folder) is None

    again = served("again").start().ready()
    with client(again.url, key) as api:
        assert api.get(f"/v1/jobs/{first['id']}").json() == first
        done = [ended(api, job) for job in begun]
        assert [job["status"] for job in done] == ["completed", "completed"]
        wallet = api.get(f"/v1/projects/{project}/credits").json()
        spent = sum(job["credits"]["charged"] for job in (first, *done))
        assert wallet == {"balance": 1000 - spent, "held": 0, "available": 1000 - spent}
        items = api.get(f"/v1/projects/{project}/generations").json()["items"]
        assert len(items) == 6
        for item in items:
            assert api.get(item["urls"]["original"]).status_code == 200
    assert again.stop() == 0


def test_two_that_start_at_once_on_nothing_share_one_database(served, folder: Path) -> None:
    both = [served("one").start(), served("two").start()]
    one, two = (each.ready() for each in both)
    key = a_key(folder / "data")
    with client(one.url, key) as left, client(two.url, key) as right:
        project = project_of(left)
        assert right.get(f"/v1/projects/{project}").json()["name"] == "A"
        jobs = [submit(api, project) for api in (left, right, left, right)]
        assert {ended(right, job)["status"] for job in jobs} == {"completed"}

        database = postgres_pid(folder)
        assert one.stop() == 0, one.said()
        assert postgres_pid(folder) == database, "the other still uses it"
        assert ended(right, submit(right, project))["status"] == "completed"
    assert two.stop() == 0, two.said()
    assert postgres_pid(folder) is None


def test_after_sigkill_the_next_start_recovers_everything(served, folder: Path) -> None:
    server = served().start().ready()
    key = a_key(folder / "data")
    with client(server.url, key) as api:
        project = project_of(api)
        done = ended(api, submit(api, project))
        begun = [submit(api, project, n=2) for _ in range(3)]
    server.kill()

    again = served("again", SAFELIGHT_LEASE_S="2").start().ready()
    with client(again.url, key) as api:
        assert api.get(f"/v1/jobs/{done['id']}").json() == done
        ends = [ended(api, job) for job in begun]
        assert {job["status"] for job in ends} == {"completed"}
        wallet = api.get(f"/v1/projects/{project}/credits").json()
        assert wallet["held"] == 0
        assert wallet["balance"] == 1000 - sum(job["credits"]["charged"] for job in (done, *ends))
        # One page, one snapshot: what a job leaves for later (large thumbnails) may still be written between two.
        page = api.get(f"/v1/projects/{project}/changes?limit=1000").json()
        assert [change["seq"] for change in page["changes"]] == list(range(1, page["head"] + 1))
    assert again.stop() == 0, again.said()


def test_a_killed_database_comes_back_under_a_running_server(served, folder: Path) -> None:
    server = served().start().ready()
    key = a_key(folder / "data")
    with client(server.url, key) as api:
        project = project_of(api)
        pid = postgres_pid(folder)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

        def is_back() -> bool:
            return postgres_pid(folder) not in (None, pid) and api.get("/readyz").status_code == 200

        until(is_back, "the database to be back")
        assert server.is_running, server.said()

        def job() -> str | None:
            body = {"model": "local/aurora", "input": {"prompt": "a red fox", "width": 64, "height": 64}}
            answer = api.post(f"/v1/projects/{project}/jobs", json=body)
            return answer.json()["id"] if answer.status_code == 202 else None

        assert ended(api, until(job, "a submit"))["status"] == "completed"
    assert server.stop() == 0, server.said()


def test_a_port_that_is_taken_is_said_in_a_sentence(served, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [str(SAFELIGHT), "serve", "--port", port, "--data", str(folder / "data")]
        ended_ = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert ended_.returncode != 0
    assert f"127.0.0.1:{port}" in ended_.stderr + ended_.stdout
    assert "Traceback" not in ended_.stderr + ended_.stdout
