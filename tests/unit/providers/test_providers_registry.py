"""The model registry: shipped data is sound, models are found by their names."""

from __future__ import annotations

import re

import pytest

from safelight.providers.model import public_model
from safelight.providers.model_faults import read_model
from safelight.providers.model_input import expected, validate_input
from safelight.providers.registry import Registry


def test_the_shipped_models_are_all_there():
    assert {
        "local/aurora",
        "local/drift",
        "fal-ai/flux/dev",
        "fal-ai/flux/schnell",
        "fal-ai/wan-t2v",
        "google/nano-banana",
        "google/nano-banana-edit",
        "nano-banana-pro",
        "veo3",
    } <= {model.id for model in Registry.load()}


@pytest.mark.parametrize("model", list(Registry.load()), ids=lambda model: model.id)
def test_every_shipped_model_takes_a_prompt_and_tells_what_it_will_make(model):
    start = "https://cdn.example/a.png" if model.start_field else None
    complete = validate_input(model, {"prompt": "a red fox"}, n=model.max_outputs, start_url=start)

    assert complete["prompt"] == "a red fox"
    assert validate_input(model, complete, n=model.max_outputs, start_url=start) == complete
    what = expected(model, complete)
    if model.kind == "video":
        assert what.duration_s is not None
        assert 2 <= what.duration_s <= 20
    if model.price.unit == "megapixel":
        assert what.width
        assert what.height


@pytest.mark.parametrize("model", list(Registry.load()), ids=lambda model: model.id)
def test_every_shipped_model_is_shown_with_its_form_and_price(model):
    shown = public_model(model)

    assert set(shown) == {
        "id", "name", "aliases", "provider", "kind", "description", "price", "max_outputs", "fields", "start_field",
        "needs_start", "eta_s",
    }  # fmt: skip
    assert shown["price"]["amount"] > 0
    assert [field["name"] for field in shown["fields"]].count("prompt") == 1
    assert all(re.fullmatch(r"[A-Za-z]\w*", field["name"]) for field in shown["fields"])


def test_editing_needs_a_start_picture_and_drawing_does_not():
    registry = Registry.load()
    needs = {model.id for model in registry if model.needs_start}
    assert needs == {"google/nano-banana-edit", "fal-ai/flux/dev/image-to-image"}


def test_a_model_is_found_by_its_aliases_and_models_by_api_lie_over_those_of_files():
    body = {
        "name": "Sketch",
        "kind": "image",
        "routes": [{"provider": "signed", "endpoint": "o"}],
        "price": {"unit": "flat", "amount": 1},
        "fields": [],
    }
    sketch = read_model("house/sketch", {**body, "aliases": ["sketch"]})
    registry = Registry([sketch])
    assert registry.get("sketch") is sketch
    registry.lay_over([read_model("house/sketch", {**body, "name": "Other"})])
    assert registry.get("house/sketch").name == "Other"
    assert registry.get("sketch") is None
    registry.lay_over([])
    assert registry.get("sketch") is sketch


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("fal-ai/flux/schnel", "fal-ai/flux/schnell"),
        ("flux-schnell", "fal-ai/flux/schnell"),
        ("Google/Nano-Banana", "google/nano-banana"),
        ("aurora", "local/aurora"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(asked, meant):
    assert meant in Registry.load().nearest(asked)


def test_a_name_like_no_other_suggests_nothing():
    assert Registry.load().nearest("zzzzzzzzzzzz") == []
