"""The JSON Schema that a model shows, and the validation that a submit meets, say the same."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.providers.model import Field, Model, Route, RouteInput
from safelight.providers.model_input import InputInvalid, for_route, validate_input
from safelight.providers.model_schema import input_schema
from safelight.providers.registry import Registry

MODELS = list(Registry.load())
SHAPES = st.one_of(
    st.integers(-5, 5000),
    st.floats(-5, 5000),
    st.booleans(),
    st.sampled_from(["", " ", "a red fox", "1:1", "16:9", "https://cdn.example/a.png", "ftp://x", "square_hd", "png"]),
    st.fixed_dictionaries({"width": st.integers(0, 5000), "height": st.sampled_from([512, 1024, "1", None])}),
    st.lists(st.sampled_from(["https://cdn.example/a.png", "no url"]), max_size=3),
)


def values(field: Field) -> st.SearchStrategy[Any]:
    """Often right, often wrong."""
    return st.one_of(SHAPES, st.sampled_from(field.options)) if field.options else SHAPES


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Model, dict[str, Any]]:
    model = draw(st.sampled_from(MODELS))
    given: dict[str, Any] = {"prompt": "a red fox"} if draw(st.booleans()) else {}
    for field in draw(st.lists(st.sampled_from(model.fields), max_size=3)):
        given[field.name] = draw(values(field))
    return model, given


def is_taken(model: Model, given: dict[str, Any]) -> bool:
    # The start image may come beside the input: the schema leaves it open, and so does the question.
    start = model.start_field if model.needs_start and model.start_field not in given else None
    try:
        validate_input(model, given, start_url="https://cdn.example/start.png" if start else None)
    except InputInvalid:
        return False
    return True


@given(asked=inputs())
def test_what_the_schema_takes_a_submit_takes_and_nothing_else(asked: tuple[Model, dict[str, Any]]):
    model, given = asked
    assert jsonschema.Draft202012Validator(input_schema(model)).is_valid(given) is is_taken(model, given)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_every_shipped_models_schema_is_one(model: Model):
    jsonschema.Draft202012Validator.check_schema(input_schema(model))


def test_a_route_is_told_in_its_own_words():
    told = RouteInput(
        values={"aspect_ratio": {"16:9": "landscape_16_9"}},
        omit=("negative_prompt",),
        rename={"aspect_ratio": "image_size"},
        extra={"quality": "high"},
    )
    route = Route(provider="b", endpoint="b/fox", input=told)
    complete = {"prompt": "a red fox", "aspect_ratio": "16:9", "negative_prompt": "blue", "seed": 7}
    assert for_route(route, complete) == {
        "prompt": "a red fox", "image_size": "landscape_16_9", "seed": 7, "quality": "high",
    }  # fmt: skip
    assert for_route(Route(provider="a", endpoint="a/fox"), complete) == complete
