"""An installation put together by hand around a fresh database: real providers, emulators, files and sockets.

`World` is what never dies here: the API's half (submit, hooks, reads). Workers come and go: `jobs_node`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import uvicorn
from jobs_node import Node
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safelight.credits import ledger
from safelight.db import task_queue
from safelight.db.pool import Database, Row
from safelight.emulators.serve import Address
from safelight.jobs import reads, taking, trace
from safelight.jobs.aftermath import Aftermath
from safelight.jobs.breaker import Rule
from safelight.jobs.breakers import Breakers
from safelight.jobs.engine import Engine
from safelight.jobs.inbox import Intake, Overloaded, Proven, UnknownAttempt, WrongToken
from safelight.jobs.learning import Durations
from safelight.jobs.offered import Offered
from safelight.jobs.parts import Parts
from safelight.jobs.policy import JobPolicy
from safelight.jobs.progress import ProgressBoard
from safelight.jobs.service import JobService, Submitted
from safelight.jobs.settler import Settler
from safelight.jobs.storing import MediaRoom
from safelight.jobs.submission import Submission
from safelight.jobs.worker import Worker
from safelight.media.fetch import Fetcher, FetchLimits, SizeLimits
from safelight.media.store import Store, open_store
from safelight.observe.metrics import Metrics
from safelight.providers.base import Provider, Transient, WebhookForged, WebhookRequest
from safelight.providers.comfyui import ComfySettings, InputUnreadable, load_workflows
from safelight.providers.factory import Limits, ProviderSettings, build_providers
from safelight.providers.fal import FalSettings
from safelight.providers.http_template import load_templates
from safelight.providers.kie import KieSettings
from safelight.providers.openai import OpenAISettings
from safelight.providers.registry import Registry
from safelight.providers.replicate import ReplicateSettings
from safelight.providers.signed import SignedSettings

DEADLINE_S = 30.0
"""Of every wait. Nothing here takes a tenth of it on a quiet machine."""
LOOK_EVERY_S = 0.03
CREDITS = 1_000_000

Build = Callable[..., Awaitable["World"]]

POLICY = {
    "lease_s": 2.0,
    "unknown_grace_s": 3.0,
    "retry_delay_s": 0.05,
    "cancel_grace_s": 2.0,
    "missing_grace_s": 1.0,
    "account_pause_s": 1.0,
    "read_through_after_s": 0.3,
    "submit_timeout_s": 20.0,
    "breaker": Rule(cool_down_s=0.5, cool_down_max_s=2.0, probe_s=3.0),
}
"""Small numbers, so that what takes minutes in life takes seconds here."""

DESCRIBED = load_templates(["runway", "luma"], {})
WORKFLOWS = load_workflows(Path(__file__).parents[1] / "providers" / "comfyui_workflows")
REGISTRY = Registry.load(
    None,
    [*(model for template in DESCRIBED for model in template.models), *(workflow.model for workflow in WORKFLOWS)],
)
MODELS = {
    "local": ("local/aurora", {"width": 64, "height": 64}),
    "local clip": ("local/drift", {"width": 64, "height": 64, "duration": 0.5}),
    "fal": ("fal-ai/flux/schnell", {"image_size": {"width": 64, "height": 64}}),
    "fal clip": ("fal-ai/wan-t2v", {"resolution": "480p", "frames_per_second": 24}),
    "kie": ("google/nano-banana", {}),
    "kie clip": ("veo3_fast", {}),
    "replicate": ("black-forest-labs/flux-schnell", {"width": 64, "height": 64}),
    "replicate clip": ("bytedance/seedance-1-lite", {"width": 64, "height": 64, "duration": 2}),
    "openai": ("openai/gpt-image-2.5-flare", {}),
    "runway": ("runway/gen4_image", {"promptText": "a red fox"}),
    "luma": ("luma/photon-1", {}),
    "comfyui": ("comfyui/portrait", {"width": 64, "height": 64}),
    "comfyui clip": ("comfyui/film", {}),
}

SIGNED_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
"""Of a worker of our own that reports by signed webhook; the test is that worker."""


def now() -> datetime:
    return datetime.now(UTC)


async def until(condition: Callable[[], Awaitable[Any]], what: str = "", deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition` gives something true, and give it back."""
    ends_at = time.monotonic() + deadline_s
    while True:
        if found := await condition():
            return found
        assert time.monotonic() < ends_at, f"waited {deadline_s} s for {what or condition}"
        await asyncio.sleep(LOOK_EVERY_S)


async def no_start_image(url: str, dest: Path) -> str:
    """No job here has one; tests/integration/server hands real ones over."""
    raise InputUnreadable(url, may_repeat=False)


def submission(what: str, faults: Mapping[str, Any] | None = None, **given: Any) -> Submission:
    """A small job: `what` names provider and kind; `faults` go to its emulator; other names to the submission."""
    model, small = MODELS[what]
    body = {"prompt": f"a red fox {uuid4()}", **small, **given.pop("input", {})}
    if faults:
        body["_emulator"] = dict(faults)
    return Submission(model=model, input=body, **given)


@dataclass
class World:
    """The installation without its workers, and what a test asks of it."""

    db: Database
    project: UUID
    emulators: Address
    folder: Path
    store: Store
    policy: JobPolicy
    limits: Mapping[str, Limits]
    has_webhooks: bool
    allow_emulators_address: bool
    providers: dict[str, Provider]
    registry: Registry
    service: JobService = field(init=False)
    intake: Intake = field(init=False)
    nodes: list[Node] = field(default_factory=list)
    published: list[dict[str, Any]] = field(default_factory=list)
    hook_answers: Counter[int] = field(default_factory=Counter)
    hooks_url: str = ""
    hook_paths: dict[UUID, str] = field(default_factory=dict)
    """What each attempt's provider was told to call."""
    hooks_are_down: bool = False
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _enqueued: asyncio.Event = field(default_factory=asyncio.Event)

    # --- workers ----------------------------------------------------------------------------------------------

    async def node(self) -> Node:
        """A worker process, not yet running."""
        db = await Database.connect(self.db.dsn, size_max=6)
        providers = self.build_providers()
        ports = [url.rpartition("//")[2].partition("/")[0] for url in (self.emulators.base_url,)]
        fetcher = Fetcher(
            frozenset(ports if self.allow_emulators_address else ()),
            FetchLimits(SizeLimits(image=2_000_000, video=8_000_000), total_s=20.0, stall_s=5.0),
        )
        durations = Durations(db)
        metrics = Metrics()
        aftermath = Aftermath(durations, metrics, now)
        breakers = Breakers(db, self.policy.breaker, now, self.policy.task_breaker)
        breakers.show(metrics, providers)
        parts = Parts(
            db=db,
            providers=providers,
            models=self.registry,
            policy=self.policy,
            media=MediaRoom(self.store, fetcher, self.folder / "scratch"),
            settler=Settler(db, aftermath, now),
            board=ProgressBoard(db, lambda _, payload: self.published.append(payload)),
            aftermath=aftermath,
            metrics=metrics,
            durations=durations,
            breakers=breakers,
            offered=Offered(db, self.registry),
            now=now,
            webhook_url=self.webhook_url,
            media_url=lambda key: f"https://media.invalid/{key}",
            worker=f"worker-{uuid4().hex[:8]}",
            allow_emulator=True,
            is_reachable=self.has_webhooks,
        )
        engine = Engine(parts)
        worker = Worker(parts, engine)
        node = Node(self.nodes, db, parts, engine, worker, providers, fetcher)
        self.nodes.append(node)
        return node

    async def start_node(self) -> Node:
        return (await self.node()).start()

    def build_providers(self) -> dict[str, Provider]:
        fal = f"{self.emulators.fal_url}"
        return build_providers(
            ProviderSettings(
                fal=FalSettings(key="id:secret", queue_url=f"{fal}/queue", rest_url=f"{fal}/rest"),
                kie=KieSettings(key="a key", api_url=self.emulators.kie_url, webhook_hmac_key="hmac of ours"),
                replicate=ReplicateSettings(token="a token", api_url=f"{self.emulators.replicate_url}/v1"),
                openai=OpenAISettings(
                    key="a key", spool=self.folder / "spool", api_url=f"{self.emulators.openai_url}/v1"
                ),
                signed=SignedSettings([SIGNED_SECRET]),
                comfyui=ComfySettings(url=self.emulators.comfyui_url, workflows=WORKFLOWS, bring=no_start_image),
                templates=load_templates(
                    ["runway", "luma"],
                    {
                        "RUNWAYML_API_SECRET": "a key",
                        "RUNWAYML_BASE_URL": self.emulators.runway_url,
                        "LUMAAI_API_KEY": "a key",
                        "LUMAAI_BASE_URL": self.emulators.luma_url,
                    },
                ),
                limits=self.limits,
            )
        )

    def webhook_url(self, provider: str, attempt: UUID, token: str) -> str | None:
        # No one listens on port 9: a submit without a webhook still names its attempt in the emulator's books.
        base = self.hooks_url if self.has_webhooks else "http://127.0.0.1:9"
        self.hook_paths[attempt] = f"/hooks/{provider}/{attempt}/{token}"
        return base + self.hook_paths[attempt]

    # --- asking -----------------------------------------------------------------------------------------------

    async def submit(self, what: str | Submission, faults: Mapping[str, Any] | None = None, **given: Any) -> UUID:
        return (await self.submitted(what, faults, **given)).job["id"]

    async def submitted(
        self,
        what: str | Submission,
        faults: Mapping[str, Any] | None = None,
        *,
        project: UUID | None = None,
        job_id: UUID | None = None,
        key: str | None = None,
        **given: Any,
    ) -> Submitted:
        wanted = submission(what, faults, **given) if isinstance(what, str) else what
        return await self.service.submit(project or self.project, wanted, job_id=job_id, idempotency_key=key)

    async def job(self, job_id: UUID) -> Row:
        async with self.db.connection() as conn:
            row = await reads.job(conn, job_id)
        assert row is not None
        return row

    async def reaches(self, job_id: UUID, *stages: str) -> Row:
        """Wait until the job is in one of these stages. Another end than these is a failure at once."""

        async def look() -> Row | None:
            row = await self.job(job_id)
            if row["stage"] in stages:
                return row
            ended = row["stage"] in ("completed", "failed", "canceled", "expired")
            assert not ended, f"{row['stage']}, not {stages}: {row['error']}"
            return None

        try:
            return await until(look, f"{stages}")
        except AssertionError as error:
            steps = [(step["attempt"], step["step"], step["detail"]) for step in await self.trace(job_id)]
            raise AssertionError(f"{error}; stage {(await self.job(job_id))['stage']}, trace {steps}") from None

    async def ends(self, *job_ids: UUID) -> list[Row]:
        """Wait until all of them have ended, whichever way."""
        ends = ("completed", "failed", "canceled", "expired")
        return [await self.reaches(job_id, *ends) for job_id in job_ids]

    async def trace(self, job_id: UUID) -> list[Row]:
        async with self.db.connection() as conn:
            return await trace.read(conn, job_id)

    async def steps(self, job_id: UUID) -> list[str]:
        return [step["step"] for step in await self.trace(job_id)]

    async def attempts(self, job_id: UUID) -> list[Row]:
        return await self.rows("select * from attempts where job_id = $1 order by number", job_id)

    async def rows(self, query: str, *args: Any) -> list[Row]:
        async with self.db.connection() as conn:
            return await conn.fetch(query, *args)

    async def value(self, query: str, *args: Any) -> Any:
        async with self.db.connection() as conn:
            return await conn.fetchval(query, *args)

    async def wallet(self, project: UUID | None = None) -> ledger.Wallet:
        async with self.db.connection() as conn:
            return await ledger.wallet(conn, project or self.project)

    async def new_project(self, credits: int = CREDITS) -> UUID:
        async with self.db.connection() as conn:
            project = await conn.fetchval("insert into projects (name) values ('a project') returning id")
            if credits:
                await ledger.grant(conn, project, credits, key="start", note="", actor="test")
        return project

    async def fault_all(self, **faults: Any) -> None:
        """Faults of every submit from now on, until called with none."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.put(f"{self.emulators.base_url}/_emulator/faults", json=faults)
            answer.raise_for_status()

    async def accepted(self, job_id: UUID | None = None) -> Counter[str]:
        """How many tasks the providers accepted for each attempt (of this job, or of all): what they would bill."""
        ours = {str(row["id"]) for row in await self.rows("select id, job_id from attempts")
                if job_id in (None, row["job_id"])}  # fmt: skip
        async with httpx.AsyncClient(trust_env=False) as client:
            listed = (await client.get(f"{self.emulators.base_url}/_emulator/requests")).json()
        return Counter(each["attempt"] for each in listed if each["attempt"] in ours)

    async def deliveries(self, job_id: UUID) -> list[dict[str, Any]]:
        """Every webhook that the emulators sent about this job."""
        ours = {str(row["id"]) for row in await self.attempts(job_id)}
        async with httpx.AsyncClient(trust_env=False) as client:
            listed = (await client.get(f"{self.emulators.base_url}/_emulator/deliveries")).json()
        return [each for each in listed if each["attempt"] in ours]

    # --- the API's half ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        self.project = await self.new_project()
        self.intake = Intake(self.db, self.providers, self._webhook_stored)
        api_engine = Engine(await self._reader_parts())
        self.service = JobService(
            db=self.db,
            models=self.registry,
            providers=self.providers,
            enabled=frozenset(name for name, each in self.providers.items() if each.disabled is None),
            policy=self.policy,
            now=now,
            tasks_waiting=self._enqueued.set,
            advance=api_engine.advance,
            take=taking.group(self.db),
            allow_emulator=True,
        )
        await self._background(self.intake.run())
        await self._background(self._notify())
        await self._serve_hooks()

    async def _reader_parts(self) -> Parts:
        """A reader's look (J5) happens in the API's process, which settles too."""
        node = await self.node()
        self.nodes.remove(node)
        self._stack.push_async_callback(node.stop)
        await self._background(node.parts.settler.run())
        return node.parts

    async def close(self) -> None:
        await self.fault_all()
        for node in list(self.nodes):
            await node.stop()
        await self._stack.aclose()
        for provider in self.providers.values():
            await provider.close()

    async def _background(self, work: Any) -> None:
        task = asyncio.create_task(work)

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._stack.push_async_callback(end)

    def _webhook_stored(self, proven: Sequence[Proven], has_hints: bool) -> None:
        """The first works beside the API; the others hear of it by the bus."""
        for index, node in enumerate(self.nodes):
            node.worker.webhook_arrived(*((proven, has_hints) if index == 0 else ()))

    async def _notify(self) -> None:
        while True:
            await self._enqueued.wait()
            self._enqueued.clear()
            await task_queue.notify(self.db)

    async def _receive(self, request: Request) -> Response:
        status = await self.receive(
            request.path_params["provider"],
            request.path_params["attempt"],
            request.path_params["token"],
            {name.lower(): value for name, value in request.headers.items()},
            await request.body(),
        )
        self.hook_answers[status] += 1
        return Response(status_code=status)

    async def receive(self, provider: str, attempt: str, token: str, headers: dict[str, str], body: bytes) -> int:
        """As the API's door: the HTTP status of a webhook."""
        if self.hooks_are_down:
            return 503
        try:
            await self.intake.receive(provider, UUID(attempt), token, WebhookRequest(headers, body, now()))
        except (WebhookForged, WrongToken):
            return 401
        except UnknownAttempt:
            return 404
        except (Overloaded, Transient):
            return 503
        return 200

    async def _serve_hooks(self) -> None:
        app = Starlette(routes=[Route("/hooks/{provider}/{attempt}/{token}", self._receive, methods=["POST"])])
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        task = asyncio.create_task(server.serve([listener]))

        async def end() -> None:
            server.should_exit = True
            server.force_exit = True
            await task
            listener.close()

        self._stack.push_async_callback(end)
        self.hooks_url = f"http://127.0.0.1:{listener.getsockname()[1]}"


async def a_world(
    db: Database,
    emulators: Address,
    folder: Path,
    *,
    policy: Mapping[str, Any] | None = None,
    limits: Mapping[str, Limits] | None = None,
    webhooks: bool = True,
    workers: int = 1,
    allow_emulators_address: bool = True,
    learnt_s: float | None = 0.3,
    registry: Registry = REGISTRY,
) -> World:
    """Put one together, with a project that has credits, and `workers` running.

    `learnt_s`: how long every model took before, so that the first look comes soon; None = nothing is known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    world = World(
        db=db,
        project=uuid4(),
        emulators=emulators,
        folder=folder,
        store=open_store((folder / "media").resolve().as_uri(), is_durable=False),
        policy=JobPolicy(**(POLICY | dict(policy or {}))),
        # Emulated KIE has no rate limit of its own, and 2 submits a second would make every test of many jobs slow.
        limits={"kie": Limits(rate_per_s=0), "replicate": Limits(rate_per_s=0), **(limits or {})},
        has_webhooks=webhooks,
        allow_emulators_address=allow_emulators_address,
        providers={},
        registry=registry,
    )
    world.providers = world.build_providers()
    if learnt_s is not None:
        async with db.connection() as conn:
            await conn.executemany(
                "insert into model_durations values ($1, $2, $3) on conflict do nothing",
                [(route.provider, route.endpoint, [learnt_s] * 3) for model in registry for route in model.routes],
            )
    await world.open()
    for _ in range(workers):
        await world.start_node()
    return world
