"""A real `safelight demo` in its own process, and what a test may ask of it from outside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

START_S = 120.0
"""A cold machine makes a database cluster first."""
STOP_S = 30.0
END_S = 180.0
"""A job through a whole chain on a busy machine."""


@dataclass(frozen=True, slots=True)
class Demo:
    """The running installation (api.md, "For whoever wants to try it")."""

    url: str
    studio_url: str
    project_id: str
    secret_key: str
    emulators: dict[str, str]
    database_url: str
    http: httpx.Client = field(repr=False)
    publishable_key: str = ""
    user_token: str = ""

    @classmethod
    def read(cls, path: Path) -> Demo:
        told = json.loads(path.read_text())
        http = httpx.Client(
            base_url=told["url"],
            headers={"Authorization": f"Bearer {told['secret_key']}"},
            timeout=30,
            trust_env=False,
        )
        names = ("url", "studio_url", "project_id", "secret_key", "emulators", "database_url", "publishable_key",
                 "user_token")  # fmt: skip
        return cls(**{name: told[name] for name in names}, http=http)

    def get(self, path: str) -> Any:
        return self.http.get(path).raise_for_status().json()

    def models(self) -> list[dict[str, Any]]:
        return self.get("/v1/models")["items"]

    def model(self, provider: str, kind: str) -> dict[str, Any]:
        """The first model of that provider that makes that kind from words alone."""
        for model in self.models():
            if model["provider"] == provider and model["kind"] == kind and takes_words(model):
                return model
        raise AssertionError(f"the demo offers no {kind} model of {provider}: {[m['id'] for m in self.models()]}")

    def video_by_webhook(self) -> dict[str, Any]:
        for provider in ("fal", "kie"):
            for model in self.models():
                if model["provider"] == provider and model["kind"] == "video" and takes_words(model):
                    return model
        raise AssertionError("the demo offers no video model of a provider with webhooks")

    def submit(self, model: str, prompt: str, **body: Any) -> str:
        """What another program would do; answers with the job's id."""
        job = {"id": str(uuid.uuid4()), "model": model, "input": {"prompt": prompt}, "n": 1, **body}
        return self.http.post(f"/v1/projects/{self.project_id}/jobs", json=job).raise_for_status().json()["id"]

    def head(self) -> int:
        """Where the project's change log ends."""
        return self.get(f"/v1/projects/{self.project_id}/changes?limit=1")["head"]

    def committed(self, after: int, table: str, holds: Callable[[dict[str, Any]], bool] = lambda _: True) -> float:
        """When the first such entry behind `after` was committed, in ms since 1970, by the database's clock."""
        while (page := self.get(f"/v1/projects/{self.project_id}/changes?after={after}&limit=1000"))["changes"]:
            for entry in page["changes"]:
                if entry["table"] == table and holds(entry):
                    return datetime.fromisoformat(entry["at"]).timestamp() * 1000
                after = entry["seq"]
        raise AssertionError(f"the change log has no such entry of {table}")

    def result_committed(self, after: int, tile: str) -> float:
        """The same of a new result."""
        return self.committed(after, "generations", lambda entry: entry["id"] == tile and entry["op"] == "insert")

    def expect_completed(self, job: str) -> None:
        """Waits until the server says so."""
        deadline = time.monotonic() + END_S
        while (status := self.get(f"/v1/jobs/{job}")["status"]) != "completed":
            assert status in ("pending", "processing"), f"{job} is {status}"
            assert time.monotonic() < deadline, f"{job} is still {status}"
            time.sleep(0.1)

    def available(self) -> int:
        return self.get(f"/v1/projects/{self.project_id}/credits")["available"]

    def faults(self, **faults: Any) -> None:
        """Of all emulated providers, from now on; none = a good day."""
        for name, address in self.emulators.items():
            if name not in ("fal", "kie"):
                continue
            answer = httpx.put(f"{address}/_emulator/faults", json=faults, timeout=10, trust_env=False)
            answer.raise_for_status()


def takes_words(model: dict[str, Any]) -> bool:
    return model["enabled"] and not model["needs_start"]


def start(data: Path) -> tuple[subprocess.Popen[bytes], Demo]:
    """Raises AssertionError with the server's own words if it does not come up."""
    log = (data / "browser-test.log").open("wb")
    command = [sys.executable, "-c", "from safelight.cli.main import app; app()"]
    options = ["demo", "--port", "0", "--data", str(data), "--no-browser", "--seed", "7"]
    process = subprocess.Popen([*command, *options], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    told = data / "demo.json"
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if told.exists() and told.read_text().rstrip().endswith("}"):
            demo = Demo.read(told)
            try:
                if demo.http.get("/healthz").is_success:
                    return process, demo
            except httpx.TransportError:
                pass
        time.sleep(0.1)
    stop(process)
    words = (data / "browser-test.log").read_text(errors="replace")[-4000:]
    raise AssertionError(
        f"`safelight demo` did not come up within {START_S:.0f} s (exit {process.returncode}):\n{words}"
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
