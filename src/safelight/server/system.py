"""The composition root: the only place that knows every room. Puts an installation together and takes it apart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import msgspec
import structlog
from starlette.types import ASGIApp

from safelight.access.gate import Gate
from safelight.access.jwks import KeySet
from safelight.access.secret_store import installation_secret
from safelight.access.sessions import Sessions
from safelight.access.tokens import Tokens
from safelight.api.app import create_app
from safelight.api.context import Context
from safelight.db import embedded, migrate
from safelight.db.pool import Database
from safelight.jobs import taking
from safelight.jobs.aftermath import Aftermath
from safelight.jobs.breakers import Breakers
from safelight.jobs.engine import Engine
from safelight.jobs.inbox import Intake, Proven
from safelight.jobs.learning import Durations
from safelight.jobs.offered import Offered
from safelight.jobs.parts import Parts
from safelight.jobs.policy import JobPolicy
from safelight.jobs.progress import ProgressBoard
from safelight.jobs.pull_outputs import PullOutputs
from safelight.jobs.pull_service import PullService
from safelight.jobs.pulling import TOPIC as PULL
from safelight.jobs.pulling import PullDesk
from safelight.jobs.pushed import Pushed
from safelight.jobs.reads import present_job
from safelight.jobs.service import JobService
from safelight.jobs.settler import SETTLING, Settler
from safelight.jobs.storing import MediaRoom
from safelight.jobs.worker import Worker
from safelight.library.generation import present_generation
from safelight.media.fetch import Fetcher
from safelight.media.serve import media_route
from safelight.media.sign import MediaSigner
from safelight.media.store import open_store
from safelight.media.uploads import Uploads
from safelight.media.workers import close_cpu
from safelight.observe.metrics import Metrics
from safelight.observe.scrape import ScrapeSource
from safelight.outgoing.address import Addresses
from safelight.outgoing.figures import Figures
from safelight.outgoing.post import GuardedPost
from safelight.outgoing.room import Outgoing
from safelight.outgoing.secret import Signer
from safelight.outgoing.sender import IN_FLIGHT_MAX, Sender
from safelight.providers.base import Provider
from safelight.providers.factory import Providers, build_providers
from safelight.providers.openai_http import TOTAL_S as OPENAI_CALL_S
from safelight.realtime.bus_base import Bus
from safelight.realtime.bus_nats import NatsBus
from safelight.realtime.bus_pg import PgBus
from safelight.realtime.door import Door
from safelight.realtime.feed import Feed
from safelight.realtime.flags import from_environment
from safelight.realtime.service import Realtime
from safelight.realtime.stream_watch import StreamWatch
from safelight.server.counted import CountedProvider
from safelight.server.fal_door import open_fal_door
from safelight.server.hearing import hear, presenters, relay
from safelight.server.inputs import InputDoor
from safelight.server.keepers import QueueHint, keep_desk, keep_house, learn
from safelight.server.offer import Offer, comfyui_doors, provider_settings
from safelight.server.settings import Settings
from safelight.stopping import side_by_side

log: Final = structlog.get_logger("server")

LAST_WORDS_S: Final = 20.0
"""What a part may take to end: a worker hears providers' last answers, and notes them."""
STUDIO: Final = Path(__file__).resolve().parent.parent / "studio_dist"


@dataclass(slots=True)
class System:
    """A running installation (or the part of it that this process plays)."""

    settings: Settings
    db: Database
    context: Context
    app: ASGIApp
    feed: Feed
    desk: PullDesk
    realtime: Realtime
    providers: Mapping[str, Provider]
    base_url: str
    run_background: Callable[[], Any]


def now() -> datetime:
    """The one clock of a running process (design.md rule 8)."""
    return datetime.now(UTC)


@asynccontextmanager
async def database(settings: Settings) -> AsyncGenerator[tuple[Database, embedded.Embedded | None]]:
    """The migrated database: the one that is configured, or the embedded one, started if need be."""
    server = None
    dsn = settings.database_url
    if dsn is None:
        server = await embedded.start(embedded.data_dir_of(settings.data))
        dsn = server.dsn
    try:
        await migrate.upgrade(dsn)
        db = await Database.connect(dsn, size_max=settings.database_connections)
        try:
            yield db, server
        finally:
            await db.close()
    finally:
        if server is not None:
            await server.stop()


@asynccontextmanager
async def system(settings: Settings, *, base_url: str) -> AsyncGenerator[System]:
    """Everything, wired and ready; `run_background` must then be run. `base_url`: how this process is reached."""
    offer = Offer.read(settings)
    async with database(settings) as (db, server), contextlib.AsyncExitStack() as stack:
        yield await _wire(settings, base_url, offer, db, server, stack)


async def _wire(
    settings: Settings,
    base_url: str,
    offer: Offer,
    db: Database,
    server: embedded.Embedded | None,
    stack: contextlib.AsyncExitStack,
) -> System:
    is_api, is_realtime, is_worker = (role in settings.roles for role in ("api", "realtime", "worker"))
    worker_name = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    metrics = Metrics()
    bus = await _bus(db, settings)
    signer = MediaSigner(await _secret(db, "media", settings))
    store = open_store(settings.storage_url or (settings.data / "media").resolve().as_uri())
    addresses = Addresses(frozenset(settings.allow_hosts))
    fetcher = Fetcher(frozenset(settings.allow_hosts), doors=comfyui_doors(settings))
    stack.push_async_callback(fetcher.close)
    stack.callback(close_cpu)
    models = offer.models
    bring = InputDoor(fetcher, store, signer, (settings.public_url or "", base_url), now)
    desk = PullDesk(db, bus.publish)
    bus.on(PULL, desk.hear)
    built = build_providers(provider_settings(settings, offer, bring, desk))
    providers = Providers({name: CountedProvider(each, metrics) for name, each in built.items()})
    for provider in providers.values():
        stack.push_async_callback(provider.close)
    enabled = frozenset(name for name, each in providers.items() if each.disabled is None)
    policy = JobPolicy(
        lease_s=settings.lease_s,
        # Adapters bound their own calls; a picture of OpenAI's is one call of up to ten minutes.
        submit_timeout_s=OPENAI_CALL_S + 30.0,
        unknown_grace_s=settings.unknown_grace_s,
        unknown_then=settings.unknown_then,
        project_concurrency=settings.project_concurrency,
    )
    durations = Durations(db)
    aftermath = Aftermath(durations, metrics, now)
    breakers, offered = Breakers(db, policy.breaker, now, policy.task_breaker), Offered(db, models)
    await offered.refresh()
    breakers.show(metrics, enabled)
    ScrapeSource(db, metrics)

    def media_path(key: str) -> str:
        return signer.sign(key, now())

    pushed = Pushed(db, now)
    feed = Feed(db, presenters(media_path), relay_progress=relay(bus, worker_name))
    feed.puller.on_pushed = pushed.note
    feed.puller.on_told = lambda changes: metrics.changes_delivered("sse", changes)
    hear(bus, feed, worker_name)
    db.on_touch(feed.hint)
    db.on_touch(bus.hint)
    bus.on_hint(feed.hint)

    public = (settings.public_url or "").rstrip("/")

    def webhook_url(provider: str, attempt: UUID, token: str) -> str | None:
        return f"{public}/hooks/{provider}/{attempt}/{token}" if public else None

    def publish(project: UUID, payload: dict[str, Any]) -> None:
        feed.publish_progress(project, msgspec.json.encode(payload))

    settler = Settler(db.lane(SETTLING), aftermath, now)
    parts = Parts(
        db=db,
        providers=providers,
        models=models,
        policy=policy,
        media=MediaRoom(store, fetcher, settings.data / "scratch"),
        settler=settler,
        board=ProgressBoard(db, publish),
        aftermath=aftermath,
        metrics=metrics,
        durations=durations,
        breakers=breakers,
        offered=offered,
        now=now,
        webhook_url=webhook_url,
        media_url=lambda key: f"{public or base_url}{media_path(key)}",
        worker=worker_name,
        allow_emulator=settings.allow_emulator,
        is_reachable=bool(public),
    )
    engine = Engine(parts)
    worker = Worker(parts, engine) if is_worker else None
    sender = None
    webhook_signer = Signer(await _secret(db, "webhooks", settings))
    outputs = PullOutputs(db, parts.media)
    if worker is not None:
        desk.place_freed = worker.reconciler.place_freed
        sender = _sender(db, addresses, webhook_signer, metrics, parts.media_url, stack)
        worker.reconciler.deliveries = sender.wake
        db.on_touch(sender.touched)
        bus.on("inbox", lambda _: worker.webhook_arrived())
    waiting = QueueHint(db)

    def webhook_stored(proven: Sequence[Proven], has_hints: bool) -> None:
        if worker is not None:
            worker.webhook_arrived(proven, has_hints)
        else:
            bus.publish("inbox")

    intake = Intake(db.lane("inbox"), providers, webhook_stored)
    uploads = Uploads(db, store, signer, settings.data / "uploads")
    sessions = Sessions(await _secret(db, "sessions", settings))
    tokens = await _tokens(settings, db, stack)
    gate = Gate(db, tokens, sessions, now, settings.admins)
    stack.push_async_callback(gate.flush)

    async def readiness() -> Mapping[str, str]:
        try:
            async with asyncio.timeout(5), db.connection() as conn:
                await conn.fetchval("select 1")
        except Exception as error:
            return {"database": f"unreachable: {type(error).__name__}"}
        return {"database": "ok"}

    streams = StreamWatch(Door(gate, db, now), feed.wake)
    context = Context(
        db=db,
        gate=gate,
        sessions=sessions,
        jobs=JobService(
            db=db,
            models=models,
            providers=dict(providers),
            enabled=enabled,
            policy=policy,
            now=now,
            tasks_waiting=waiting,
            advance=engine.advance,
            take=taking.group(db),
            check_webhook_url=addresses.check,
            allow_emulator=settings.allow_emulator,
        ),
        intake=intake,
        pull=PullService(parts, desk, outputs, engine.advance),
        models=models,
        enabled=enabled,
        durations=durations,
        breakers=breakers,
        offered=offered,
        feed=feed,
        streams=streams,
        uploads=uploads,
        metrics=metrics,
        outgoing=Outgoing(addresses, webhook_signer, sender.wake if sender is not None else lambda: None),
        media_url=media_path,
        now=now,
        own_origins=frozenset({public} if public else ()),
        readiness=readiness,
        flag_overrides=from_environment(os.environ),
    )
    realtime = Realtime(
        db=db,
        gate=gate,
        feed=feed,
        bus=bus,
        node=worker_name,
        metrics=metrics,
        clock=now,
        environ=os.environ,
        own_origins=context.own_origins,
    )
    fal_door = await open_fal_door(context, settings, base_url, stack)
    app = create_app(
        context,
        media=media_route(store, signer, now),
        studio=STUDIO,
        cors_origins=settings.cors_origins,
        extra=(*(realtime.routes if is_realtime else ()), *([fal_door.route] if is_api else ())),
        follows_only=not is_api,
    )
    await bus.start()
    stack.push_async_callback(bus.stop)
    await feed.start()
    stack.push_async_callback(feed.stop)
    await realtime.start()
    stack.push_async_callback(realtime.stop)

    async def background() -> None:
        """What runs beside the requests, until cancelled."""
        beside: list[Coroutine[Any, Any, None]] = [waiting.run()]
        with_last_words: list[Coroutine[Any, Any, None]] = []
        if worker is not None:
            with_last_words += [worker.run(), fal_door.run()]
            if sender is not None:
                with_last_words.append(sender.run())
            beside += [keep_house(settings, db, uploads, metrics, server, now), keep_desk(desk, outputs)]
        else:
            # A reader's look (J5) may finish a job here too.
            beside += [settler.run(), learn(durations, breakers, offered)]
        if is_api:
            beside.append(intake.run())
        if is_realtime:
            beside.append(realtime.run())
        if is_api or is_realtime:
            beside += [pushed.run(), gate.run(), streams.run()]
        if server is not None:
            beside.append(server.keep_running())
        await side_by_side(side_by_side(*beside), *with_last_words, again_s=LAST_WORDS_S)

    return System(settings, db, context, app, feed, desk, realtime, providers, base_url, background)


async def _secret(db: Database, name: str, settings: Settings) -> bytes:
    if name == "media" and settings.media_secret is not None:
        return settings.media_secret.get_secret_value().encode()
    return await installation_secret(db, name)


async def _bus(db: Database, settings: Settings) -> Bus:
    """NATS where there is one. Its subjects begin with what only this installation's processes can work out."""
    if settings.nats_url is None:
        return PgBus(db.dsn)
    return NatsBus(settings.nats_url, (await installation_secret(db, "bus")).hex()[:16])


async def _tokens(settings: Settings, db: Database, stack: contextlib.AsyncExitStack) -> Tokens:
    """What tells people apart: the operator's issuer, else a secret that this installation drew for itself."""
    keys = None
    if settings.jwks_url is not None:
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=5, trust_env=False))
        keys = KeySet(settings.jwks_url, client, now)
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else None
    if secret is None and keys is None:
        secret = (await installation_secret(db, "jwt")).hex()
    return Tokens(clock=now, secret=secret, keys=keys, audience=settings.jwt_audience)


def _sender(
    db: Database,
    addresses: Addresses,
    signer: Signer,
    metrics: Metrics,
    media_url: Callable[[str], str],
    stack: contextlib.AsyncExitStack,
) -> Sender:
    """What tells apps' own servers (J12). Its pictures' addresses are whole: they are read far from here."""
    post = GuardedPost(addresses, connections_max=IN_FLIGHT_MAX)
    stack.push_async_callback(post.close)
    return Sender(
        db,
        post,
        signer,
        Figures(db, metrics),
        show_job=present_job,
        show_generation=lambda row: present_generation(row, media_url),
        now=now,
    )
