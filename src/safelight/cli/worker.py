"""`safelight worker run`: a function of yours as a pull worker (P3)."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from safelight.cli.server_option import Key, Url

app = typer.Typer(no_args_is_help=True, help="Make jobs on a machine of your own.")


@app.callback()
def family() -> None:
    """Keeps `run` a command of its own, though it is the only one."""


@app.command()
def run(
    function: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="For example my_module:generate, from this folder.")
    ],
    models: Annotated[
        str | None,
        typer.Option("--models", "-m", help="What it makes, by commas. Default: all of the server's pull models."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Shown in the traces of its jobs. Default: host and process.")
    ] = None,
    lease_s: Annotated[
        float, typer.Option("--lease", min=1, max=600, help="Seconds after which a dead worker's job is another's.")
    ] = 60.0,
    drain_s: Annotated[
        float, typer.Option("--drain", min=0, help="Seconds to finish the present job when told to stop.")
    ] = 20.0,
    url: Url = None,
    key: Key = None,
) -> None:
    """Claim jobs and make them with your function, until Ctrl-C or SIGTERM.

    safelight worker run my_module:generate --models my/model
    """
    from safelight.sdk.worker import run as work

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    wanted = [each.strip() for each in (models or "").split(",") if each.strip()]
    work(_found(function), wanted, url=url, key=key, name=name, lease_s=lease_s, drain_s=drain_s)


def _found(named: str) -> Callable[..., Any]:
    """Errors inside the module are its author's: they come through with their traceback."""
    module, colon, attribute = named.partition(":")
    if not colon or not module or not attribute:
        raise typer.BadParameter("name a module and a function: my_module:generate")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    if not _is_there(module):
        raise typer.BadParameter(f"there is no module {module!r} in {here} or installed")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise typer.BadParameter(f"{module} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise typer.BadParameter(f"{named} is no function")
    return found


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        return False
