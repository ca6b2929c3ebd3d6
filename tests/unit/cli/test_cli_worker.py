"""`safelight worker run`: the function it is given, found or named as missing (P3)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safelight.cli.main import app
from safelight.cli.worker import _found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "cli_worker_module.py").write_text(
        "COUNT = 7\nclass Painter:\n    @staticmethod\n    def paint(input):\n        return b''\n"
    )
    return tmp_path


def test_a_function_is_found_in_a_module_of_this_folder(here: Path):
    assert callable(_found("cli_worker_module:Painter.paint"))


@pytest.mark.parametrize(
    "named, said",
    [
        ("nowhere_at_all:generate", "no module 'nowhere_at_all'"),
        ("nowhere.at.all:generate", "no module 'nowhere.at.all'"),
        ("cli_worker_module:nothing", "no 'nothing'"),
        ("cli_worker_module:COUNT", "is no function"),
        ("cli_worker_module", "my_module:generate"),
    ],
)
def test_what_is_not_there_is_named(here: Path, named: str, said: str):
    done = CliRunner().invoke(app, ["worker", "run", named], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
