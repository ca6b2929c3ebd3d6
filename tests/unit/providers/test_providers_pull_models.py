"""`[[pull]]` in a model file: a model of the operator's own machines in one line, as strictly read as any (P3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from safelight.providers.model import Price, Route
from safelight.providers.model_file import RegistryError
from safelight.providers.model_input import validate_input
from safelight.providers.registry import Registry


def read(tmp_path: Path, text: str) -> Registry:
    path = tmp_path / "models.toml"
    path.write_text(text)
    return Registry.load(path)


def test_one_line_is_a_model(tmp_path: Path):
    model = read(tmp_path, '[[pull]]\nid = "my/model"\n').get("my/model")
    assert model is not None
    assert (model.name, model.kind, model.routes) == (
        "my/model",
        "image",
        (Route(provider="pull", endpoint="my/model"),),
    )
    assert model.price == Price(unit="flat", amount=0)
    assert validate_input(model, {"prompt": "a fox", "steps": 4}) == {"prompt": "a fox", "steps": 4}


def test_what_is_given_counts(tmp_path: Path):
    text = """
    [[pull]]
    id = "my/film"
    name = "Film"
    kind = "video"
    price = { unit = "flat", amount = 50 }
    max_outputs = 2
    eta_s = 90.0
    fields = [{ name = "scene", type = "text", label = "Scene" }]
    """
    model = read(tmp_path, text).get("my/film")
    assert model is not None
    assert (model.name, model.kind, model.price.amount, model.max_outputs, model.eta_s) == (
        "Film",
        "video",
        50,
        2,
        90.0,
    )
    assert [field.name for field in model.fields] == ["scene"]


@pytest.mark.parametrize(
    "text, said",
    [
        ('[[pull]]\nid = "my model"', "without spaces"),
        ('[[pull]]\nid = "my/model"\ncolour = 1', "colour"),
        ('[[pull]]\nid = "my/model"\n[[pull]]\nid = "my/model"', "used twice"),
        ('[[pull]]\nid = "my/model"\nmax_outputs = 99', "max_outputs"),
        ("[[pull]]", "id"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str):
    with pytest.raises(RegistryError, match=said):
        read(tmp_path, text)
