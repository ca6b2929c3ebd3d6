"""What an app id and an input of fal's mean here (K4)."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.compat.fal.app_id import base_of, find_model, normalized
from safelight.compat.fal.order import KEY_MAX, key_of, order
from safelight.jobs.errors import InvalidSubmission
from safelight.providers.model import Model, Price, Route
from safelight.providers.registry import Registry

SHIPPED = Registry.load()


def a_model(name: str, **given: object) -> Model:
    fields = {
        "name": name, "kind": "image", "description": "", "price": Price(unit="picture", amount=1), "fields": (),
        "routes": (Route(provider="fal", endpoint="fal-ai/inner/model"),),
    }  # fmt: skip
    return Model(id=name, **{**fields, **given})


@pytest.mark.parametrize(
    ("app", "model"),
    [
        ("fal-ai/flux/dev", "fal-ai/flux/dev"),
        ("fal-ai/flux/dev/image-to-image", "fal-ai/flux/dev/image-to-image"),
        ("local/aurora", "local/aurora"),
        ("veo3", "veo3"),
        ("safelight/veo3", "veo3"),
        ("safelight/google/nano-banana", "google/nano-banana"),
        ("aurora", None),  # an endpoint's name among a provider's own
        ("fal-ai/flux", None),
        ("", None),
        ("fal-ai/" + "x" * 300, None),
    ],
)
def test_an_app_id_is_a_models_name(app: str, model: str | None) -> None:
    found = find_model(SHIPPED, app)
    assert (found.id if found else None) == model


def test_an_app_id_is_also_what_a_provider_calls_a_model() -> None:
    models = Registry([a_model("house/own"), a_model("fal-ai/other/one")])
    found = find_model(models, "fal-ai/inner/model")
    assert found is not None
    assert found.id == "house/own"


@pytest.mark.parametrize(
    ("app", "base"),
    [
        ("fal-ai/flux/dev/image-to-image", "fal-ai/flux"),
        ("local/aurora", "local/aurora"),
        ("workflows/me/thing/x", "workflows/me/thing"),
        ("comfy/me/thing", "comfy/me/thing"),
        ("veo3", "safelight/veo3"),
    ],
)
def test_requests_are_filed_where_clients_look_for_them(app: str, base: str) -> None:
    assert base_of(app) == base


def test_stray_slashes_and_the_old_form_are_understood() -> None:
    assert normalized("/fal-ai//flux/dev/") == "fal-ai/flux/dev"
    assert normalized("1234-name") == "1234/name"
    assert normalized("local/1234-name") == "local/1234-name"


@given(st.text(max_size=60))
@settings(max_examples=30)
def test_no_text_breaks_an_app_id(text: str) -> None:
    app = normalized(text)
    assert find_model(SHIPPED, app) is None or app
    assert "//" not in base_of(app)


def test_the_count_stands_beside_the_input() -> None:
    model = a_model("m", n_field="num_images")
    made = order(model, {"prompt": "x", "num_images": 3.0, "sync_mode": True}, {}, None)
    assert (made.input, made.n, made.priority) == ({"prompt": "x"}, 3, 0)


def test_the_count_is_understood_for_models_that_call_it_otherwise() -> None:
    assert order(a_model("m", n_field="n"), {"num_images": 2}, {}, None).n == 2
    assert order(a_model("m", n_field="n"), {"n": 4}, {}, None).n == 4


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True, None, [1]])
def test_a_count_that_is_none_is_refused(count: object) -> None:
    with pytest.raises(InvalidSubmission) as refused:
        order(a_model("m"), {"num_images": count}, {}, None)
    assert refused.value.extras["errors"][0]["loc"] == ["body", "num_images"]


def test_low_priority_start_image_and_key_are_kept() -> None:
    start = uuid4()
    made = order(a_model("m"), {}, {"x-fal-queue-priority": "LOW"}, start)
    assert (made.priority, made.start) == (-10, start)
    assert key_of({"idempotency-key": "a"}) == "a"
    assert key_of({}) is None
    for wrong in ("", "x" * (KEY_MAX + 1)):
        with pytest.raises(InvalidSubmission):
            key_of({"idempotency-key": wrong})
