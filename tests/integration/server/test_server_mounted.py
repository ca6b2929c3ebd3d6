"""K5: the example of a FastAPI app around Safelight runs as its first line says, and both halves answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

APP = Path(__file__).resolve().parents[3] / "examples" / "fastapi"
READY_S = 90.0
RESULT_S = 60.0


@pytest.fixture
def environ(dsn: str) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("SAFELIGHT_")}
    return {**others, "SAFELIGHT_DATABASE_URL": dsn}


@pytest.fixture
def url(environ: dict[str, str], tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(APP), "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + READY_S
        while not _is_ready(f"http://127.0.0.1:{port}"):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).is_success
    except httpx.TransportError:
        return False


async def test_the_apps_own_routes_and_safelight_answer_side_by_side(url: str, environ: dict[str, str]) -> None:
    command = [Path(sys.executable).with_name("safelight"), "keys", "create", "--json"]
    made = subprocess.run(command, env=environ, capture_output=True, timeout=60)
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)["key"]
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False) as http:
        assert (await http.get("/hello")).json() == {"hello": "from the app around it"}
        project = (await http.post("/v1/projects", json={"name": "mounted"})).raise_for_status().json()["id"]
        granted = await http.post(f"/v1/projects/{project}/credits/grants", json={"amount": 1000, "key": "start"})
        granted.raise_for_status()
        address = f"{url.replace('http', 'ws')}/realtime/v1/websocket?apikey={key}&vsn=2.0.0"
        async with connect(address, proxy=None, open_timeout=30) as ws:
            topic = f"realtime:task-updates:{project}"
            await ws.send(json.dumps(["1", "1", topic, "phx_join", {"config": {"broadcast": {"self": False}}}]))
            body = {"model": "local/aurora", "input": {"prompt": "from within", "width": 64, "height": 64}}
            (await http.post(f"/v1/projects/{project}/jobs", json=body)).raise_for_status()
            async with asyncio.timeout(RESULT_S):
                while True:
                    _, _, _, event, payload = json.loads(await ws.recv())
                    if event == "broadcast" and payload["payload"].get("table") == "generations":
                        break
        made_by = payload["payload"]["row"]["urls"]["original"]
        picture = await http.get(made_by)
        assert picture.headers["content-type"].startswith("image/")
        assert "<html" in (await http.get("/")).text
