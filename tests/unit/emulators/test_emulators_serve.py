"""The emulators start where they say, stop when told, and can live inside another program."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from safelight.emulators.app import PROVIDERS, create_emulator_app
from safelight.emulators.serve import running, serving
from safelight.emulators.settings import EmulatorSettings

STARTS_WITHIN_S = 60


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_run_says_where_it_listens_and_ends_when_told(stop: signal.Signals):
    code = "from safelight.emulators.serve import run; run(port=0)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as ran:
        try:
            assert ran.stdout is not None
            found = re.match(r"Emulators at (http://127\.0\.0\.1:\d+)", ran.stdout.readline())
            assert found is not None
            answer = httpx.get(found[1], timeout=STARTS_WITHIN_S)
            assert answer.json()["providers"] == {name: f"/{name}" for name in PROVIDERS}
            ran.send_signal(stop)
            _, errors = ran.communicate(timeout=STARTS_WITHIN_S)
        finally:
            ran.kill()
    assert (ran.returncode, errors) == (0, "")


def test_starting_imports_nothing_heavy():
    code = (
        "import sys; from safelight.emulators.serve import running\n"
        "with running(): print(sorted({'numpy', 'PIL', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=STARTS_WITHIN_S)
    assert done.stdout.strip() == "[]", done.stderr


async def test_a_taken_port_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with serving(port=taken.getsockname()[1]):
            pass


def test_it_runs_beside_code_that_has_no_event_loop_and_frees_its_port():
    with running() as at:
        assert httpx.get(at.base_url).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(at.base_url)


async def test_result_urls_follow_the_address_that_the_caller_used():
    async with serving() as at, httpx.AsyncClient(headers={"Authorization": "Key a:b"}) as client:
        port = at.base_url.rsplit(":", 1)[1]
        answer = await client.post(f"http://localhost:{port}/fal/queue/fal-ai/flux", json={"prompt": "x"})
    assert answer.json()["status_url"].startswith(f"http://localhost:{port}/fal/queue/")


async def test_a_public_address_can_be_set():
    settings = EmulatorSettings(base_url="https://emulators.example")
    async with serving(settings, port=0) as at:
        assert at.base_url == "https://emulators.example"


async def test_the_app_can_be_called_without_a_server():
    app = create_emulator_app()
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://e", headers={"Authorization": "Key a:b"}) as client,
    ):
        answer = await client.post("/fal/queue/fal-ai/flux", json={"prompt": "x"})
        assert answer.json()["status_url"].startswith("http://e/fal/queue/fal-ai/flux/requests/")
        with pytest.raises(ConnectionResetError):
            await client.post("/fal/queue/fal-ai/flux", json={"prompt": "x", "_emulator": {"submit": "lose_answer"}})
        assert len((await client.get("/_emulator/requests")).json()) == 2
