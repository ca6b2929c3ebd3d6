"""The command `safelight` as people run it, against a real demo and a real database."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from PIL import Image

SAFELIGHT = str(Path(sys.executable).with_name("safelight"))
PATIENCE_S = 180


def environ(**given: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SAFELIGHT_")}
    return {**clean, "COLUMNS": "200", "NO_COLOR": "1", **given}


@pytest.fixture
def safelight(demo, tmp_path: Path):
    """Runs the command in an empty folder, pointed at the demo by the environment."""
    known = environ(SAFELIGHT_URL=demo.url, SAFELIGHT_KEY=demo.secret_key, SAFELIGHT_PROJECT=demo.project_id)

    def run(*args: str, check: bool = True, **changed: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [SAFELIGHT, *args],
            capture_output=True,
            text=True,
            env={**known, **changed},
            cwd=tmp_path,
            timeout=PATIENCE_S,
        )
        assert not check or done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def test_generate_saves_the_files_and_names_them(safelight, tmp_path: Path) -> None:
    done = safelight("generate", "local/aurora", "-p", "prompt=a red fox", "-n", "2", "-o", "out")
    paths = [tmp_path / line for line in done.stdout.splitlines()]
    assert len(paths) == 2
    for path in paths:
        assert path.parent == tmp_path / "out"
        with Image.open(path) as picture:
            picture.verify()
    assert "2 saved" in done.stderr


def test_generate_for_programs_prints_one_document(safelight, tmp_path: Path) -> None:
    done = safelight("generate", "local/aurora", "-p", "prompt=x", "-p", "seed=7", "--tag", "ci", "--json")
    said = json.loads(done.stdout)
    assert said["job"]["status"] == "completed"
    assert said["job"]["input"]["seed"] == 7
    assert said["job"]["tags"] == ["ci"]
    assert (tmp_path / said["files"][0]).is_file()


def test_a_job_can_be_left_and_watched_from_elsewhere(safelight, tmp_path: Path) -> None:
    job = safelight("generate", "local/aurora", "-p", "prompt=later", "--no-wait").stdout.strip()
    done = safelight("jobs", "watch", job, "-o", "later")
    assert (tmp_path / done.stdout.strip()).is_file()


def test_jobs_are_listed_shown_and_traced(safelight) -> None:
    job = json.loads(safelight("generate", "local/aurora", "-p", "prompt=[red]not markup", "--json").stdout)["job"][
        "id"
    ]
    assert job in safelight("jobs", "list", "--status", "completed").stdout
    assert "[red]not markup" in safelight("jobs", "show", job).stdout
    assert json.loads(safelight("jobs", "show", job, "--json").stdout)["id"] == job
    listed = json.loads(safelight("jobs", "list", "--json", "--limit", "1").stdout)
    assert len(listed["items"]) == 1

    traced = safelight("trace", job).stdout
    steps = json.loads(safelight("trace", job, "--json").stdout)["steps"]
    assert steps
    assert all(step["step"] in traced for step in steps)


def test_a_failed_job_says_why_and_fails(safelight) -> None:
    fault = '_emulator:={"fail": "content_policy"}'
    done = safelight("generate", "fal-ai/flux/schnell", "-p", "prompt=x", "-p", fault, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) <= 2
    assert done.stdout == ""


def test_a_wait_that_is_over_says_that_the_job_goes_on(safelight) -> None:
    slow = '_emulator:={"latency_s": 20}'
    done = safelight("generate", "fal-ai/flux/schnell", "-p", "prompt=x", "-p", slow, "--timeout", "0.2", check=False)
    assert done.returncode == 6
    assert "goes on" in done.stderr
    assert "safelight jobs watch" in done.stderr


def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(demo, tmp_path: Path) -> None:
    known = environ(SAFELIGHT_URL=demo.url, SAFELIGHT_KEY=demo.secret_key, SAFELIGHT_PROJECT=demo.project_id)
    tag = uuid4().hex
    command = [SAFELIGHT, "generate", "fal-ai/flux/schnell", "-p", "prompt=x", "--tag", tag]
    process = subprocess.Popen(
        [*command, "-p", '_emulator:={"latency_s": 30}'],
        env=known,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs us in the background has it ignored, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    from safelight.sdk import Safelight

    with Safelight(demo.url, demo.secret_key, demo.project_id) as client:
        while not (found := client.jobs.list(tag=tag).items):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130
        assert f"safelight jobs watch {found[0].id}" in said
        assert not client.jobs.get(found[0].id).is_over
        client.jobs.cancel(found[0].id)


def test_credits_are_shown_and_granted(safelight) -> None:
    safelight("credits", "grant", "500", "--note", "a test", "--once", uuid4().hex)
    wallet = json.loads(safelight("credits", "show", "--json").stdout)
    assert wallet["balance"] == wallet["held"] + wallet["available"] > 0
    assert str(wallet["available"]) in safelight("credits", "show").stdout or wallet["held"]


@pytest.mark.parametrize(
    ("changed", "exit_code", "hint"),
    [
        ({"SAFELIGHT_KEY": "sk_wrong"}, 4, "safelight keys create"),
        ({"SAFELIGHT_URL": "http://127.0.0.1:9"}, 3, "safelight demo"),
        ({"SAFELIGHT_URL": ""}, 3, "safelight demo"),
        ({"SAFELIGHT_PROJECT": ""}, 3, "SAFELIGHT_PROJECT"),
        ({"SAFELIGHT_PROJECT": str(uuid4())}, 1, ""),
    ],
)
def test_what_is_wrong_with_the_connection_is_one_line_and_what_to_do(safelight, changed, exit_code, hint) -> None:
    done = safelight("jobs", "list", check=False, **changed)
    assert done.returncode == exit_code
    assert hint in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert done.stdout == ""


def test_a_model_that_does_not_exist_is_said_so(safelight) -> None:
    done = safelight("generate", "no/such", "-p", "prompt=x", check=False)
    assert done.returncode == 1
    assert "no/such" in done.stderr


def test_a_pipe_that_closes_early_is_no_error(safelight, demo, tmp_path: Path) -> None:
    known = environ(SAFELIGHT_URL=demo.url, SAFELIGHT_KEY=demo.secret_key, SAFELIGHT_PROJECT=demo.project_id)
    done = subprocess.run(
        f"{SAFELIGHT} jobs list --json --limit 200 | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
        env=known,
        cwd=tmp_path,
    )
    assert "Traceback" not in done.stderr
    assert len(done.stdout) == 10


def test_a_key_made_on_the_machine_opens_the_server_until_it_is_revoked(safelight, demo) -> None:
    data = ("--data", str(demo.folder))
    made = json.loads(
        safelight("keys", "create", "--project", demo.project_id, "--name", "laptop", *data, "--json").stdout
    )
    assert safelight("jobs", "list", SAFELIGHT_KEY=made["key"]).returncode == 0

    listed = safelight("keys", "list", "--project", demo.project_id, *data).stdout
    assert made["id"] in listed
    assert "laptop" in listed
    assert made["key"] not in listed

    safelight("keys", "revoke", made["id"], *data)
    listed = json.loads(safelight("keys", "list", "--project", demo.project_id, *data, "--json").stdout)
    assert next(key for key in listed if key["id"] == made["id"])["revoked_at"]
    assert safelight("keys", "revoke", str(uuid4()), *data, check=False).returncode == 1


async def test_an_empty_database_is_brought_up_to_date(empty_dsn: str, safelight) -> None:
    before = safelight("db", "status", SAFELIGHT_DATABASE_URL=empty_dsn, check=False)
    assert before.returncode == 1
    assert "safelight keys" not in before.stdout
    missing = before.stdout.split()
    assert missing[0].startswith("0001_")
    assert safelight("keys", "list", SAFELIGHT_DATABASE_URL=empty_dsn, check=False).returncode == 3

    assert safelight("db", "upgrade", SAFELIGHT_DATABASE_URL=empty_dsn).stdout.split() == missing
    again = safelight("db", "upgrade", SAFELIGHT_DATABASE_URL=empty_dsn)
    assert again.stdout == ""
    assert safelight("db", "status", SAFELIGHT_DATABASE_URL=empty_dsn).returncode == 0


def test_a_folder_without_a_database_is_not_given_one_by_a_typo(safelight, tmp_path: Path) -> None:
    done = safelight("keys", "list", "--data", str(tmp_path / "typo"), check=False)
    assert done.returncode == 3
    assert "--data" in done.stderr
    assert not (tmp_path / "typo").exists()


def test_a_database_that_is_not_there_is_one_line(safelight) -> None:
    done = safelight("keys", "list", SAFELIGHT_DATABASE_URL="postgresql://nobody@127.0.0.1:9/none", check=False)
    assert done.returncode == 3
    assert "SAFELIGHT_DATABASE_URL" in done.stderr


def test_the_emulators_run_by_themselves(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [SAFELIGHT, "emulate", "--port", "0"], stdout=subprocess.PIPE, text=True, env=environ(), cwd=tmp_path
    )
    try:
        assert process.stdout
        url = process.stdout.readline().rpartition(" ")[2].strip()
        assert httpx.get(f"{url}/_emulator/requests").status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_server_serves_until_it_is_told_to_stop_and_takes_its_database_with_it(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    data = Path(tempfile.mkdtemp(prefix="safelight-serve-"))
    data.chmod(0o755)
    process = subprocess.Popen(
        [SAFELIGHT, "serve", "--port", port, "--data", str(data)],
        env=environ(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until_answers(f"http://127.0.0.1:{port}/readyz", process)
        database = int((data / "pg" / "data" / "postmaster.pid").read_text().split()[0])
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
        assert not Path(f"/proc/{database}").exists()
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(data, ignore_errors=True)


def until_answers(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout and process.stdout.read()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.05)
    pytest.fail(f"{url} did not answer")


def test_settings_that_make_no_sense_are_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [SAFELIGHT, "serve", "--roles", "api,cook"], capture_output=True, text=True, env=environ(), cwd=tmp_path
    )
    assert done.returncode == 2
    assert "roles" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [SAFELIGHT, "demo", "--no-browser", "--port", port],
            capture_output=True,
            text=True,
            env=environ(),
            cwd=tmp_path,
        )
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr
