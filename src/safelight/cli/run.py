"""`safelight demo | serve | emulate`: processes that run until they are interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Host = Annotated[str, typer.Option("--host", help="The address to listen on.")]
Data = Annotated[
    Path | None, typer.Option("--data", help="The folder for everything that is kept. Default: .safelight")
]


def register(app: typer.Typer) -> None:
    app.command()(demo)
    app.command()(serve)
    app.command()(emulate)


def demo(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 = any free one.")] = 8080,
    data: Data = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the studio in a browser.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="The same pictures every time.")] = 0,
) -> None:
    """Everything on this machine, with nothing to set up: server, studio, database, emulated providers."""
    folder = data or Path(".safelight")
    # Before the slow imports: whoever waits for this file must not find the one of the last run.
    (folder / "demo.json").unlink(missing_ok=True)
    from safelight.server.demo import DemoOptions, run

    run(DemoOptions(host, port, folder, opens_browser=not no_browser, seed=seed))


def serve(
    host: Annotated[str | None, typer.Option("--host", help="The address to listen on. [SAFELIGHT_HOST]")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="0 = any free one. [SAFELIGHT_PORT]")
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option("--roles", help="What this process does: api, realtime, worker, by commas. [SAFELIGHT_ROLES]"),
    ] = None,
    data: Data = None,
) -> None:
    """A server, as the environment (SAFELIGHT_…) says."""
    from safelight.providers.comfyui import WorkflowError
    from safelight.providers.http_template import TemplateError
    from safelight.providers.model_file import RegistryError
    from safelight.server.run import serve as run
    from safelight.server.settings import Settings

    given: dict[str, Any] = {"host": host, "port": port, "roles": roles, "data": data}
    try:
        run(Settings(**{name: value for name, value in given.items() if value is not None}))
    except (RegistryError, TemplateError, WorkflowError) as error:
        # The operator's own file: its line is worth more than ours.
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


def emulate(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 = any free one.")] = 8090,
    seed: Annotated[int, typer.Option("--seed", help="The same pictures and keys every time.")] = 0,
) -> None:
    """Stand-ins for fal, KIE, Replicate and OpenAI's images that speak their wire contracts and make real media."""
    from safelight.emulators.serve import run
    from safelight.emulators.settings import EmulatorSettings

    run(host, port, EmulatorSettings(seed=seed))
