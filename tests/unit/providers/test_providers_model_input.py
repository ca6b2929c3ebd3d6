"""Input of a caller → complete input of a provider, or a list of what is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.providers.abridged import without_files
from safelight.providers.model import Model
from safelight.providers.model_input import InputInvalid, expected, validate_input
from safelight.providers.registry import Registry

REGISTRY = Registry.load()


def model(name: str) -> Model:
    found = REGISTRY.get(name)
    assert found is not None
    return found


def faults(name: str, given: dict, **more) -> list[tuple[list, str]]:
    with pytest.raises(InputInvalid) as caught:
        validate_input(model(name), given, **more)
    for error in caught.value.errors:
        assert set(error) == {"loc", "msg", "type"}
        assert error["msg"]
    return [(error["loc"], error["type"]) for error in caught.value.errors]


def test_defaults_and_count_are_filled_in():
    complete = validate_input(model("fal-ai/flux/dev"), {"prompt": "a fox"}, n=3)
    assert complete == {
        "prompt": "a fox",
        "image_size": "landscape_4_3",
        "num_inference_steps": 28,
        "guidance_scale": 3.5,
        "output_format": "jpeg",
        "enable_safety_checker": True,
        "num_images": 3,
    }


def test_fields_the_registry_does_not_know_pass_through():
    complete = validate_input(
        model("fal-ai/flux/dev"), {"prompt": "a", "acceleration": "high", "loras": [{"path": "x"}]}
    )
    assert complete["acceleration"] == "high"
    assert complete["loras"] == [{"path": "x"}]


def test_null_means_not_given():
    complete = validate_input(model("fal-ai/flux/dev"), {"prompt": "a", "seed": None, "guidance_scale": None})
    assert "seed" not in complete
    assert complete["guidance_scale"] == 3.5


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("prompt", 7, "string_type"),
        ("prompt", "   ", "string_too_short"),
        ("prompt", "x" * 5001, "string_too_long"),
        ("seed", "7", "int_type"),
        ("seed", True, "int_type"),
        ("seed", 1.5, "int_type"),
        ("seed", -1, "greater_than_equal"),
        ("guidance_scale", "high", "float_type"),
        ("guidance_scale", 21, "less_than_equal"),
        ("image_size", "round", "one_of"),
        ("image_size", 4, "one_of"),
        ("image_size", {"width": 512}, "size_type"),
        ("enable_safety_checker", "yes", "bool_type"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_type(field, value, kind):
    assert faults("fal-ai/flux/dev", {"prompt": "a", field: value}) == [(["body", "input", field], kind)]


def test_all_faults_are_told_at_once():
    told = faults("fal-ai/flux/dev", {"seed": "x", "image_size": "round"})
    assert told == [
        (["body", "input", "prompt"], "missing"),
        (["body", "input", "image_size"], "one_of"),
        (["body", "input", "seed"], "int_type"),
    ]


def test_a_whole_float_is_a_whole_number():
    complete = validate_input(model("fal-ai/flux/dev"), {"prompt": "a", "seed": 7.0})
    assert complete["seed"] == 7
    assert isinstance(complete["seed"], int)


def test_a_size_may_be_given_in_pixels_where_the_model_takes_one():
    complete = validate_input(model("fal-ai/flux/dev"), {"prompt": "a", "image_size": {"width": 512, "height": 640}})
    assert expected(model("fal-ai/flux/dev"), complete).width == 512
    assert faults("fal-ai/flux/dev", {"prompt": "a", "image_size": {"width": 512, "height": 9999}}) == [
        (["body", "input", "image_size", "height"], "less_than_equal")
    ]


@pytest.mark.parametrize("n", [0, -1, 5])
def test_more_results_than_the_model_makes_are_refused(n):
    assert faults("fal-ai/flux/dev", {"prompt": "a"}, n=n)[0][0] == ["body", "n"]


def test_the_count_is_asked_for_in_one_place():
    assert faults("fal-ai/flux/dev", {"prompt": "a", "num_images": 4}, n=1) == [
        (["body", "input", "num_images"], "conflict")
    ]
    assert validate_input(model("fal-ai/flux/dev"), {"prompt": "a", "num_images": 4}, n=4)["num_images"] == 4


# --- shape ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("fal-ai/flux/dev", "image_size", "landscape_16_9"),
        ("google/nano-banana", "image_size", "16:9"),
        ("veo3", "aspect_ratio", "16:9"),
        ("local/aurora", "aspect_ratio", "16:9"),
    ],
)
def test_one_aspect_ratio_works_for_every_model(name, field, value):
    complete = validate_input(model(name), {"prompt": "a", "aspect_ratio": "16:9"})
    assert complete[field] == value
    what = expected(model(name), complete)
    assert what.width
    assert what.height
    assert what.width / what.height == pytest.approx(16 / 9, rel=0.03)


def test_a_local_picture_has_its_size_before_it_is_made():
    assert validate_input(model("local/aurora"), {"prompt": "a"})["width"] == 768
    tall = validate_input(model("local/aurora"), {"prompt": "a", "aspect_ratio": "9:16", "width": 288})
    assert (tall["width"], tall["height"]) == (288, 512)
    small = validate_input(model("local/aurora"), {"prompt": "a", "width": 64, "height": 96})
    assert (small["width"], small["height"]) == (64, 96)


def test_the_length_of_a_clip_follows_from_its_input():
    drift, wan = model("local/drift"), model("fal-ai/wan-t2v")
    assert expected(drift, validate_input(drift, {"prompt": "a", "duration": 2})).duration_s == 2
    assert expected(wan, validate_input(wan, {"prompt": "a"})).duration_s == pytest.approx(81 / 16)


# --- start image ------------------------------------------------------------------------------------------------


def test_the_start_image_goes_where_the_model_wants_it():
    url = "https://media.example/a.png?s=1"
    assert validate_input(model("fal-ai/flux/dev/image-to-image"), {"prompt": "a"}, start_url=url)["image_url"] == url
    edit = validate_input(model("google/nano-banana-edit"), {"prompt": "a"}, start_url=url)
    assert edit["image_urls"] == [url]
    more = {"prompt": "a", "image_urls": ["https://x.example/b.png", url]}
    assert validate_input(model("google/nano-banana-edit"), more, start_url=url)["image_urls"] == [
        url,
        "https://x.example/b.png",
    ]


def test_a_model_that_edits_asks_for_its_picture():
    assert faults("google/nano-banana-edit", {"prompt": "a"}) == [(["body", "input", "image_urls"], "missing")]
    assert faults("google/nano-banana-edit", {"prompt": "a", "image_urls": []}) == [
        (["body", "input", "image_urls"], "too_short")
    ]


def test_a_model_without_a_start_image_says_so():
    assert faults("fal-ai/flux/dev", {"prompt": "a"}, start_url="https://x.example/a.png") == [
        (["body", "start"], "start_not_supported")
    ]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("file:///etc/passwd", "url_scheme"),
        ("data:text/html,x", "url_scheme"),
        (without_files("data:image/png;base64," + "A" * 100_000), "url_cut"),
        ("https://x.example/a b", "url_scheme"),
        ("https://x.example/" + "a" * 9000, "url_too_long"),
        (5, "url_type"),
    ],
)
def test_only_urls_of_pictures_are_taken(url, kind):
    assert faults("google/nano-banana-edit", {"prompt": "a", "image_urls": ["https://x.example/ok.png", url]}) == [
        (["body", "input", "image_urls", 1], kind)
    ]


def test_too_many_pictures_are_refused():
    urls = [f"https://x.example/{i}.png" for i in range(11)]
    assert faults("google/nano-banana-edit", {"prompt": "a", "image_urls": urls}) == [
        (["body", "input", "image_urls"], "too_long")
    ]


# --- what may not come in ---------------------------------------------------------------------------------------


def test_emulator_faults_pass_only_where_the_deployment_allows_them():
    given = {"prompt": "a", "_emulator": {"webhook": "lost"}}
    assert faults("fal-ai/flux/dev", given) == [(["body", "input", "_emulator"], "extra_forbidden")]
    assert validate_input(model("fal-ai/flux/dev"), given, allow_emulator=True)["_emulator"] == {"webhook": "lost"}
    assert faults("fal-ai/flux/dev", {"prompt": "a", "_other": 1}, allow_emulator=True)[0][1] == "extra_forbidden"
    assert faults("fal-ai/flux/dev", {"prompt": "a", "_emulator": "x"}, allow_emulator=True)[0][1] == "dict_type"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("nul\x00", "string_unicode"),
        ("half \ud83d", "string_unicode"),
        (float("nan"), "finite_number"),
        ({"deep": [{"er": float("inf")}]}, "finite_number"),
        ({"bad\x00key": 1}, "string_unicode"),
    ],
)
def test_what_the_database_cannot_hold_is_refused_before_a_job_exists(value, kind):
    assert [told for _, told in faults("fal-ai/flux/dev", {"prompt": "a", "extra": value})] == [kind]


def test_bottomless_input_is_refused():
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    assert [kind for _, kind in faults("fal-ai/flux/dev", {"prompt": "a", "x": deep})] == ["too_deep"]
    assert faults("fal-ai/flux/dev", {"prompt": "a"} | {f"f{i}": 1 for i in range(200)})[0][1] == "too_long"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["prompt", "seed", "image_size", "width", "duration", "image_urls", "aspect_ratio", "n"]
) | st.text(max_size=8)


@given(st.sampled_from(list(REGISTRY)), st.dictionaries(NAMES, JSON_VALUES, max_size=6), st.integers(-1, 9))
def test_any_input_is_either_refused_or_complete_storable_and_stable(chosen, raw, n):
    try:
        complete = validate_input(chosen, raw, n=n)
    except InputInvalid as invalid:
        refused = json.dumps(invalid.errors)
    else:
        refused = None
    if refused is not None:
        assert refused != "[]"
        return
    json.dumps(complete, allow_nan=False).encode()
    assert validate_input(chosen, complete, n=n) == complete
    expected(chosen, complete)
