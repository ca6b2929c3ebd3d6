"""`safelight demo`: everything on this machine, with emulated providers and a first picture, no key needed (O1)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec
import structlog
from pydantic import SecretStr
from rich.console import Console

from safelight.access import keys, projects, studio_link
from safelight.access.principal import Principal, Role
from safelight.access.tokens import Tokens
from safelight.credits import ledger
from safelight.db.pool import Transaction
from safelight.jobs.submission import Submission
from safelight.server.run import listen, serve_on
from safelight.server.settings import Settings
from safelight.server.system import System

log: Final = structlog.get_logger("server")

PROJECT: Final = UUID("0197a000-0000-7000-8000-00000000da40")
"""Fixed, so that a page left open finds its project again after a restart."""
USER: Final = "demo"
CREDITS: Final = 1_000_000
TOKEN_S: Final = 30 * 24 * 3600
LINK_S: Final = 24 * 3600
FIRST_PROMPT: Final = "a red fox in a birch forest at first light"
EMULATOR_START_S: Final = 30.0
KIE_KEY: Final = "demo-kie-webhook-key"
"""Shared by the emulator and its adapter on this machine; it protects nothing else."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    host: str = "127.0.0.1"
    port: int = 8080
    data: Path = Path(".safelight")
    opens_browser: bool = True
    seed: int = 0


def run(options: DemoOptions) -> None:
    """Serve until interrupted; writes `demo.json` into `data` once it answers. Raises OSError if the port is taken."""
    options.data.mkdir(parents=True, exist_ok=True)
    (options.data / "demo.json").unlink(missing_ok=True)
    listener = listen(options.host, options.port)
    with emulators(options.seed) as emulator_url, contextlib.closing(listener):
        port = listener.getsockname()[1]
        settings = _settings(options, port, emulator_url)

        async def greet(system: System) -> None:
            await _greet(system, options, emulator_url)

        serve_on(settings, listener, greet)


def _settings(options: DemoOptions, port: int, emulator_url: str) -> Settings:
    host = emulator_url.partition("://")[2]
    # An app on this machine that wants webhooks: what is named below goes before the environment.
    named = os.environ.get("SAFELIGHT_ALLOW_HOSTS", "").split(",")
    allowed = [each.strip() for each in named if each.strip()]
    return Settings(
        host=options.host,
        port=port,
        data=options.data,
        admins=(USER,),
        public_url=f"http://127.0.0.1:{port}" if options.host in ("127.0.0.1", "0.0.0.0") else None,  # noqa: S104 -- compared
        fal_key=SecretStr("demo:demo"),
        fal_queue_url=f"{emulator_url}/fal/queue",
        fal_rest_url=f"{emulator_url}/fal/rest",
        kie_key=SecretStr("demo"),
        kie_url=f"{emulator_url}/kie",
        kie_webhook_key=SecretStr(KIE_KEY),
        replicate_token=SecretStr("demo"),
        replicate_url=f"{emulator_url}/replicate/v1",
        openai_key=SecretStr("demo"),
        openai_url=f"{emulator_url}/openai/v1",
        allow_hosts=(host, *allowed),
        allow_emulator=True,
        provider_rate={"kie": 0, "replicate": 0},
        log_format=os.environ.get("SAFELIGHT_LOG_FORMAT", "console"),  # pyright: ignore[reportArgumentType]
        log_level=os.environ.get("SAFELIGHT_LOG_LEVEL", "warning"),
    )


@contextmanager
def emulators(seed: int) -> Generator[str]:
    """The emulated providers as a process of their own; yields its address. It dies with us, however we die."""
    command = [sys.executable, "-m", "safelight.emulators", "--port", "0", "--seed", str(seed)]
    command += ["--kie-hmac-key", KIE_KEY, "--parent", str(os.getpid())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)  # noqa: S603 -- ourselves
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            address: str = json.loads(line)["base_url"]
        except ValueError:
            raise RuntimeError(f"the emulators did not start; they said: {line!r}") from None
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _greet(system: System, options: DemoOptions, emulator_url: str) -> None:
    """Project, user, keys and the first picture; then say where it is."""
    made = await _prepare(system)
    about: dict[str, Any] = {
        "url": system.base_url,
        "studio_url": f"{system.base_url}/?key={made['link']}",
        "project_id": str(PROJECT),
        "secret_key": made["secret_key"],
        "publishable_key": made["publishable_key"],
        "user_token": made["user_token"],
        "emulators": {name: f"{emulator_url}/{name}" for name in ("fal", "kie", "replicate", "openai")},
        "database_url": system.db.dsn,
    }
    path = options.data / "demo.json"
    await asyncio.to_thread(_write_private, path, msgspec.json.format(msgspec.json.encode(about), indent=2))
    _announce(about, path)
    if options.opens_browser and _has_screen():
        await asyncio.to_thread(webbrowser.open, about["studio_url"])
    await _first_picture(system, options.seed)


async def _prepare(system: System) -> dict[str, str]:
    context, clock = system.context, system.context.now
    admin = Principal("key", "demo", None, None, Role.ADMIN, "secret")

    async def work(tx: Transaction) -> dict[str, str]:
        if not await tx.conn.fetchval("select true from projects where id = $1", PROJECT):
            await projects.create_project(tx, admin, "Demo", project_id=PROJECT)
        await projects.set_member(tx, PROJECT, USER, "owner", actor="demo")
        await ledger.grant(tx.conn, PROJECT, CREDITS, "demo", "a gift to begin with", "demo")
        # The keys of an earlier run are in an earlier demo.json: they end with it.
        for old in await keys.list_keys(tx.conn, None):
            if old.name == "demo" and old.revoked_at is None:
                await keys.revoke_key(tx, old.id, actor="demo")
        for old in await keys.list_keys(tx.conn, PROJECT):
            if old.name == "demo" and old.revoked_at is None:
                await keys.revoke_key(tx, old.id, actor="demo")
        secret = await keys.create_key(tx, project_id=None, kind="secret", name="demo", actor="demo")
        public = await keys.create_key(tx, project_id=PROJECT, kind="publishable", name="demo", actor="demo")
        link = await studio_link.create_link(
            tx, user_id=USER, project_id=PROJECT, ttl_s=LINK_S, now=clock(), actor="demo"
        )
        tx.touch(PROJECT)
        return {"secret_key": secret.plaintext, "publishable_key": public.plaintext, "link": link}

    made = await system.db.run(work)
    tokens: Tokens = context.gate.tokens
    return {**made, "user_token": tokens.issue(USER, TOKEN_S)}


async def _first_picture(system: System, seed: int) -> None:
    """Submitted under an id that follows from the seed: the same demo shows it once."""
    await system.context.jobs.submit(
        PROJECT,
        Submission(model="local/aurora", input={"prompt": FIRST_PROMPT, "seed": seed}),
        job_id=uuid5(PROJECT, f"first-{seed}"),
        actor=f"user:{USER}",
    )


def _write_private(path: Path, text: bytes) -> None:
    """Whole or not at all, readable by us alone: it holds keys."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(text + b"\n")
    temporary.replace(path)


def _announce(about: dict[str, Any], path: Path) -> None:
    """No frame around it: an address that a frame cuts is one that cannot be clicked."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"\n  [bold red]●[/] [bold]Safelight[/] is running\n\n"
        f"    Studio  [bold][link={about['studio_url']}]{about['studio_url']}[/link][/]\n"
        f"    API     {about['url']}/docs\n"
        f"    Keys    {path}\n\n"
        f'  [dim]Try     safelight generate local/aurora -p prompt="a lighthouse at night" -o out\n'
        f"  Stop    Ctrl-C; what you made stays in {path.parent}[/]\n"
    )


def _has_screen() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
