"""Safelight as a program: started as a user starts it, spoken to over HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import sql
from benchmarks.load.closed import Answered, exhaust
from benchmarks.load.http import Address, request
from benchmarks.load.run import Watch
from benchmarks.processes import ROOT, Program, data_dir, free_port, remove

SECRET: Final = bytes(range(32))
"""Of the signed worker whose webhooks we send."""
TOKEN: Final = "benchmark-token"
"""The secret in a webhook's path. The database keeps only its hash and each attempt has its own, which only the
provider is told; so before a run we set the hash of this one on the attempts of the run (`arm`)."""
MODEL: Final = "bench/signed"
PRICE: Final = 500
GRANT: Final = 1_000_000_000
GENERATION: Final = rb'"table":"generations","op":"insert","id":"([0-9a-f-]{36})"'
SUBMITTERS: Final = 16
ACCEPT_S: Final = 300.0

MODELS: Final = f"""
[[model]]
id = "{MODEL}"
name = "Signed"
kind = "image"
description = "A worker of our own that reports by signed webhook."
routes = [{{ provider = "signed", endpoint = "bench" }}]
price = {{ unit = "picture", amount = {PRICE} }}

[[model.fields]]
name = "prompt"
type = "text"
label = "Prompt"
required = true
"""


@dataclass(slots=True)
class Project:
    id: str
    jobs: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Safelight:
    """A server on a folder of its own. `stop` it; `forget` its folder."""

    address: Address
    program: Program
    home: Path
    key: str
    ready_s: float

    name = "Safelight"

    @classmethod
    def start(
        cls, home: Path | None = None, env: Mapping[str, str] | None = None, command: Sequence[str] | None = None
    ) -> Safelight:
        """Serve on `home` (None: a fresh one). `ready_s` is the time from the process's start to a 200 of /readyz.

        `command` replaces `safelight serve`; it gets the same `--host --port --data`.
        """
        home = home or data_dir()
        models = home / "models.toml"
        models.write_text(MODELS)
        port = free_port()
        settings = {
            "SAFELIGHT_MODELS": str(models),
            "SAFELIGHT_SIGNED_SECRET": "whsec_" + base64.b64encode(SECRET).decode(),
            "SAFELIGHT_PROJECT_CONCURRENCY": "10000",
            "SAFELIGHT_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "SAFELIGHT_LOG_LEVEL": "warning",
            **(env or {}),
        }
        program = Program(
            "safelight",
            [*(command or [_script(), "serve"]), "--host", "127.0.0.1", "--port", str(port), "--data", str(home)],
            home / "serve.log",
            settings,
        )
        address = Address("127.0.0.1", port)
        try:
            ready_s = program.wait_for_url(f"{address.url}/readyz")
            key = _key(home)
        except BaseException:
            program.stop()
            raise
        return cls(address, program, home, key, ready_s)

    def stop(self) -> None:
        self.program.stop()

    def forget(self) -> None:
        remove(self.home)

    @property
    def pids(self) -> list[int]:
        """PostgreSQL is our child."""
        return [self.program.pid]

    @property
    def dsn(self) -> str:
        from safelight.db.embedded_home import cluster_home, owner_of, service_account, socket_dir

        cluster = cluster_home(self.home / "pg", service_account())
        return f"postgresql://postgres@/safelight?host={socket_dir(cluster, owner_of(cluster))}"

    # --- over HTTP

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        asked = urllib.request.Request(
            self.address.url + path,
            None if body is None else json.dumps(body).encode(),
            {**self.headers, "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None
        except urllib.error.URLError:
            self.program.check()
            raise

    def new_project(self, name: str = "Benchmark") -> Project:
        project = Project(self.ask("POST", "/v1/projects", {"name": name})["id"])
        self.ask("POST", f"/v1/projects/{project.id}/credits/grants", {"amount": GRANT, "key": "bench", "note": ""})
        return project

    def submits(self, projects: Sequence[Project], count: int) -> list[bytes]:
        """Requests that submit jobs under ids of our choice, over the projects in turn."""
        made: list[bytes] = []
        for number in range(count):
            project = projects[number % len(projects)]
            job = str(uuid.uuid4())
            project.jobs.append(job)
            body = {"id": job, "model": MODEL, "input": {"prompt": f"a red fox, take {number}"}}
            made.append(self._post(f"/v1/projects/{project.id}/jobs", body))
        return made

    def _post(self, path: str, body: Any) -> bytes:
        return request(self.address, "POST", path, json.dumps(body).encode(), self.headers)

    def submit(self, projects: Sequence[Project], count: int) -> Answered:
        """As fast as they are taken. Raises RuntimeError if one was refused."""
        done = exhaust(self.address, self.submits(projects, count), SUBMITTERS)
        if done.statuses != {202: count}:
            raise RuntimeError(f"submits were answered {done.statuses}: {done.refusal!r}")
        return done

    def await_accepted(self, timeout_s: float = ACCEPT_S) -> None:
        """Until the provider has every unfinished job, so that no sending disturbs what is measured next."""
        deadline = time.monotonic() + timeout_s
        query = "select count(*) from jobs where stage in ('queued', 'submitting')"
        while left := sql.value(self.dsn, query):
            self.program.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{left} jobs were not sent in {timeout_s:.0f} s")
            time.sleep(0.25)

    def arm(self, jobs: Sequence[str]) -> list[str]:
        """Attempt ids of these jobs, in order, with the token we know."""
        rows = sql.fetch(
            self.dsn,
            "update attempts set token_hash = $1 where job_id = any ($2::uuid[]) returning id, job_id",
            hashlib.sha256(TOKEN.encode()).digest(),
            list(jobs),
        )
        by_job = {str(row["job_id"]): str(row["id"]) for row in rows}
        return [by_job[job] for job in jobs]

    def webhooks(self, jobs: Sequence[str], attempts: Sequence[str]) -> list[bytes]:
        """The worker's signed word that each is done, with the result inside."""
        now = str(int(time.time()))
        return [self._webhook(job, attempt, now) for job, attempt in zip(jobs, attempts, strict=True)]

    def _webhook(self, job: str, attempt: str, now: str) -> bytes:
        stored = {"key": f"bench/{job}.png", "mime": "image/png", "bytes": 100_000, "width": 1024, "height": 1024}
        report = {"task_id": attempt, "status": "succeeded", "outputs": [{"stored": stored}]}
        body = json.dumps(report, separators=(",", ":")).encode()
        identity = f"msg_{attempt}"
        signature = hmac.digest(SECRET, f"{identity}.{now}.".encode() + body, "sha256")
        return request(
            self.address,
            "POST",
            f"/hooks/signed/{attempt}/{TOKEN}",
            body,
            {
                "webhook-id": identity,
                "webhook-timestamp": now,
                "webhook-signature": "v1," + base64.b64encode(signature).decode(),
            },
        )

    def watch(self, project: Project) -> Watch:
        asked = request(
            self.address, "GET", f"/v1/projects/{project.id}/changes/stream", None,
            {**self.headers, "Accept": "text/event-stream"},
        )  # fmt: skip
        return Watch(self.address, GENERATION, asked)

    # --- afterwards

    def faults(self) -> list[str]:
        """What is not as promised, in words; empty when every job is done, paid once, and the log has no hole."""
        found = [
            f"{row['count']} jobs are {row['stage']}"
            for row in sql.fetch(self.dsn, "select stage, count(*) from jobs group by stage")
            if row["stage"] != "completed"
        ]
        found += [f"job {row['id']} has not one result" for row in sql.fetch(self.dsn, _RESULTS)]
        found += [f"log of {row['project_id']}: {dict(row)}" for row in sql.fetch(self.dsn, _HOLES)]
        return found + _audit(self.dsn)


_RESULTS: Final = """
select j.id from jobs j left join generations g on g.job_id = j.id
where j.stage = 'completed' group by j.id having count(g.id) <> j.n limit 20
"""
_HOLES: Final = """
select h.project_id, h.head, count(c.seq) as entries, min(c.seq) as first, max(c.seq) as last
from project_heads h left join changes c using (project_id) group by h.project_id, h.head
having count(c.seq) <> h.head or min(c.seq) <> 1 or max(c.seq) <> h.head or count(distinct c.seq) <> h.head
"""


def generation_id(job: str) -> bytes:
    """The tile's id (api.md, Library)."""
    return str(uuid.uuid5(uuid.UUID(job), "0")).encode()


def _audit(dsn: str) -> list[str]:
    import asyncio

    import asyncpg

    from safelight.credits.audit import audit

    async def ask() -> list[str]:
        conn = await asyncpg.connect(dsn)
        try:
            return [str(mismatch) for mismatch in await audit(conn)]
        finally:
            await conn.close()

    return asyncio.run(ask())


def _script() -> str:
    return str(Path(sys.executable).parent / "safelight")


def _key(home: Path) -> str:
    command = [_script(), "keys", "create", "--json", "--name", "benchmark", "--data", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env={**os.environ})
    if done.returncode:
        raise RuntimeError(f"no key: {done.stderr or done.stdout}")
    return json.loads(done.stdout)["key"]
