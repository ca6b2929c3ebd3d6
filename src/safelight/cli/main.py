"""The command `safelight`: its families, and what a person sees when something goes wrong."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from safelight.cli import credits, db, flags, generate, jobs, keys, run, trace, worker


class Told(TyperGroup):
    """Errors of ours become one line that says what happened and what to do next, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            raise typer.Exit(0) from None  # `safelight jobs list | head`
        except Exception as error:
            from safelight.cli.failure import explained, tell

            told = explained(error)
            if told is None:
                raise
            tell(told)
            raise typer.Exit(told.exit_code) from error


app = typer.Typer(
    cls=Told,
    name="safelight",
    help="Generate images and video with any model; every result is stored for good and paid for once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done · 1 failed · 2 wrong use · 3 no server or database · 4 not allowed · "
    "5 too few credits · 6 still running after --timeout · 130 interrupted.",
)


def _version(is_asked: bool) -> None:
    if is_asked:
        from safelight import __version__

        typer.echo(f"safelight {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Say the version."),
) -> None:
    pass


run.register(app)
generate.register(app)
app.add_typer(jobs.app, name="jobs")
trace.register(app)
app.add_typer(credits.app, name="credits")
app.add_typer(keys.app, name="keys")
app.add_typer(flags.app, name="flags")
app.add_typer(worker.app, name="worker")
app.add_typer(db.app, name="db")
