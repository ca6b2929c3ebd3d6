"""An operator's file of models: it adds, replaces and removes, and is read strictly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from safelight.providers.model_file import RegistryError
from safelight.providers.registry import Registry

OWN = """
remove = ["veo3_fast"]

[[model]]
id = "house/sketch"
name = "Sketch"
kind = "image"
description = "Ours."
routes = [{ provider = "signed", endpoint = "sketch" }]
price = { unit = "picture", amount = 7 }
fields = [{ name = "prompt", type = "text", label = "Prompt", required = true }]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(text)
    return path


def test_an_operator_adds_and_removes_models(tmp_path):
    registry = Registry.load(write(tmp_path, OWN))

    sketch = registry.get("house/sketch")
    assert sketch is not None
    assert sketch.provider == "signed"
    assert sketch.max_outputs == 1
    assert registry.get("veo3_fast") is None
    assert registry.get("veo3") is not None


def test_an_operators_model_replaces_ours_of_the_same_id(tmp_path):
    registry = Registry.load(write(tmp_path, OWN.replace("house/sketch", "local/aurora")))
    aurora = registry.get("local/aurora")
    assert aurora is not None
    assert aurora.price.amount == 7
    assert len(registry) == len(Registry.load()) - 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "image"', 'kind = "hologram"', "hologram"),
        ('unit = "picture"', 'unit = "furlong"', "furlong"),
        ("amount = 7", "amount = -7", "negative"),
        ("amount = 7", "amount = 0.5", "whole number"),
        ('name = "Sketch"', 'nmae = "Sketch"', "nmae"),
        ('routes = [{ provider = "signed", endpoint = "sketch" }]', "routes = []", "route"),
        ('type = "text"', 'type = "select"', "options"),
        ('type = "text"', 'type = "number", default = "many"', "default"),
        ('type = "text"', 'type = "int", default = true', "default"),
        ('type = "text"', 'type = "int", min = 3, max = 2', "min"),
        ('name = "prompt"', 'name = "_prompt"', "_"),
        ('kind = "image"', 'kind = "image"\nmax_outputs = 99', "max_outputs"),
        ('kind = "image"', 'kind = "image"\nn_field = "prompt"', "n_field"),
        ('kind = "image"', 'kind = "image"\nstart_field = "prompt"', "start_field"),
        ('kind = "image"', 'kind = "image"\neta_s = 0', "eta_s"),
        ('kind = "image"', 'kind = "image"\nduration = { field = "length" }', "length"),
        ('kind = "image"', 'kind = "image"\naspect = { field = "shape", options = [] }', "aspect"),
        ('kind = "image"', 'kind = "image"\nextra = { prompt = "x" }', "extra"),
        ("[[model]]", "[[model", "models.toml"),
        ('remove = ["veo3_fast"]', 'remove = ["never/was"]', "never/was"),
    ],
)
def test_a_wrong_model_file_is_refused_with_the_reason(tmp_path, old, new, says):
    assert old in OWN
    with pytest.raises(RegistryError, match=re.escape(says)):
        Registry.load(write(tmp_path, OWN.replace(old, new)))


def test_the_same_id_twice_in_one_file_is_refused(tmp_path):
    with pytest.raises(RegistryError, match="twice"):
        Registry.load(write(tmp_path, OWN + OWN.split("\n", 2)[2]))


def test_a_missing_model_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(RegistryError, match=r"absent\.toml"):
        Registry.load(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("amount = 7", "amount = -7", "models.toml, line 10, model[0].price.amount: a price cannot be negative."),
        ('name = "Sketch"', 'nmae = "Sketch"', "models.toml, line 6, model[0].nmae: there is no such field."),
        ('kind = "image"', 'kind = "image"\nextra = { prompt = "x" }', "line 8, model[0].extra.prompt: "),
        ('endpoint = "sketch" }', 'endpoint = "sketch", timeout_s = 0 }', "line 9, model[0].routes[0].timeout_s: "),
        (
            'kind = "image"',
            'kind = "image"\naliases = ["veo3"]',
            "line 8, model[0].aliases: 'veo3' is the id of a model.",
        ),
        ('remove = ["veo3_fast"]', 'remove = ["never/was"]', "line 2, remove: 'never/was' is no model."),
        (
            'endpoint = "sketch" }',
            'endpoint = "sketch", input = { rename = { size = "dim" } } }',
            "line 9, model[0].routes[0].input.rename: names 'size', which the model's form does not have.",
        ),
    ],
)
def test_a_mistake_names_the_file_the_line_and_the_field(tmp_path, old, new, says):
    assert old in OWN
    with pytest.raises(RegistryError, match=re.escape(says)):
        Registry.load(write(tmp_path, OWN.replace(old, new)))
