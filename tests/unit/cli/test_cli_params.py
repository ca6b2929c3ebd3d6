"""What people type, and what they are told when it goes wrong."""

from __future__ import annotations

import errno

import pytest
import typer
from typer.testing import CliRunner

from safelight.access.errors import NotFound as NoSuchKey
from safelight.cli.failure import explained
from safelight.cli.generate import parsed
from safelight.cli.main import app
from safelight.cli.table import plain
from safelight.db.embedded import EmbeddedError
from safelight.sdk import InsufficientCredits, InvalidInput, NotConfigured, Unauthorized, Unreachable


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("prompt=a red fox", ("prompt", "a red fox")),
        ("prompt=42", ("prompt", "42")),
        ("negative_prompt=true", ("negative_prompt", "true")),
        ("seed=42", ("seed", 42)),
        ("seed=0", ("seed", 0)),
        ("seed=007", ("seed", "007")),
        ("strength=0.5", ("strength", 0.5)),
        ("loop=true", ("loop", True)),
        ("style=", ("style", "")),
        ("prompt=a=b=c", ("prompt", "a=b=c")),
        ("prompt=two\nlines", ("prompt", "two\nlines")),
        ('size:={"width": 64}', ("size", {"width": 64})),
        ('zip:="12345"', ("zip", "12345")),
        ("number=12345678901234567890", ("number", "12345678901234567890")),
    ],
)
def test_a_parameter_means_what_it_looks_like(typed: str, meant: tuple[str, object]) -> None:
    assert parsed(typed) == meant


@pytest.mark.parametrize("typed", ["prompt", "=x", "", "size:={", "1=2", "a b=c"])
def test_a_parameter_that_is_none_is_wrong_use(typed: str) -> None:
    with pytest.raises(typer.BadParameter):
        parsed(typed)


@pytest.mark.parametrize(
    ("error", "exit_code", "says", "hints"),
    [
        (Unreachable("no answer from http://x", code="unreachable"), 3, "No answer from http://x", "safelight demo"),
        (NotConfigured("nothing known", code="not_configured"), 3, "Nothing known", "SAFELIGHT_URL"),
        (Unauthorized("The key is revoked.", code="unauthorized"), 4, "revoked", "keys create"),
        (
            InsufficientCredits("…", code="insufficient_credits", extras={"required": 9, "available": 1}),
            5,
            "9 needed, 1 there",
            "credits grant",
        ),
        (
            InvalidInput("…", code="invalid_input", extras={"errors": [{"loc": ["body", "n"], "msg": "too many"}]}),
            1,
            "n: too many",
            "",
        ),
        (EmbeddedError("no room"), 3, "no room", ""),
        (NoSuchKey("There is no such key."), 1, "no such key", ""),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), 3, "refused", "SAFELIGHT_DATABASE_URL"),
        (PermissionError(errno.EACCES, "Permission denied", "/srv/x"), 1, "/srv/x", ""),
    ],
)
def test_an_error_is_said_in_words_with_what_to_do(error: Exception, exit_code: int, says: str, hints: str) -> None:
    told = explained(error)
    assert told is not None
    assert told.exit_code == exit_code
    assert says in told.message
    assert hints in told.hint


def test_an_error_that_a_task_group_wrapped_is_said_the_same() -> None:
    alone = EmbeddedError("no room")
    assert explained(ExceptionGroup("", [ExceptionGroup("", [alone])])) == explained(alone)
    assert explained(ExceptionGroup("", [alone, KeyError()])) is None


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    assert explained(KeyError("oops")) is None


def test_what_users_wrote_is_not_taken_for_markup_nor_breaks_the_table() -> None:
    assert plain("[red]a[/red]\nb") == r"\[red]a\[/red] b"
    assert len(plain("x" * 10_000)) <= 120


def test_generate_asks_for_a_model_or_a_template() -> None:
    for given in ([], ["local/aurora", "--template", "x"]):
        done = CliRunner().invoke(app, ["generate", *given])
        assert done.exit_code == 2
        assert "MODEL or a --template" in done.output


def test_every_command_explains_itself() -> None:
    for command in (
        ["demo"], ["serve"], ["emulate"], ["generate"], ["trace"], ["jobs", "list"], ["jobs", "show"],
        ["jobs", "watch"], ["jobs", "cancel"], ["jobs", "retry"], ["credits", "show"], ["credits", "grant"],
        ["keys", "create"],
        ["keys", "list"], ["keys", "revoke"], ["db", "upgrade"], ["db", "status"],
    ):  # fmt: skip
        done = CliRunner().invoke(app, [*command, "--help"])
        assert done.exit_code == 0, done.output
        assert command[-1] in done.output


def test_the_version_is_said() -> None:
    from safelight import __version__

    assert CliRunner().invoke(app, ["--version"]).output.strip() == f"safelight {__version__}"


def test_asking_for_help_loads_neither_server_nor_client() -> None:
    """`safelight --help` answers at once because heavy parts are imported by the command that needs them."""
    import subprocess
    import sys

    program = """
import sys, safelight.cli.main
heavy = ("fastapi", "httpx", "asyncpg", "numpy", "uvicorn", "safelight.sdk")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
