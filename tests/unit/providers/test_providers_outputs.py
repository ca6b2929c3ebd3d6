"""Media is found whatever shape the model gave its result."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.providers.outputs import OUTPUTS_MAX, find_outputs

A, B, C = "https://cdn.example/a", "https://cdn.example/b", "https://cdn.example/c"


@pytest.mark.parametrize(
    ("result", "kind", "urls"),
    [
        ({"images": [{"url": A}, {"url": B}]}, "image", [A, B]),
        ({"image": {"url": A}}, "image", [A]),
        ({"image": A}, "image", [A]),
        ({"video": {"url": A}}, "video", [A]),
        ({"videos": [{"url": A}]}, "video", [A]),
        ({"audio": {"url": A}}, "audio", [A]),
        ({"audio_url": A}, "audio", [A]),
        ({"resultUrls": [A, B]}, "video", [A, B]),
        ({"output": [A]}, "image", [A]),
        # the kind's own name first: a poster beside a clip is not a result
        ({"image": {"url": A}, "video": {"url": B}}, "video", [B]),
        ({"images": [], "mesh": {"url": C}}, "image", [C]),
        ({"data": {"deep": [{"file": {"url": A, "content_type": "image/png"}}]}}, "image", [A]),
        ([{"url": A}], "image", [A]),
        ({"images": [{"url": A}, {"url": A}]}, "image", [A]),
        # a task known by its id alone has no kind
        ({"images": [{"url": A}]}, "", [A]),
        ({"resultUrls": [A]}, "", [A]),
        ({"video": {"url": A}}, "", [A]),
    ],
)
def test_media_is_found_in_the_providers_order(result, kind, urls):
    assert [output.url for output in find_outputs(result, kind)] == urls


@pytest.mark.parametrize(
    "result",
    [
        None,
        5,
        "https://cdn.example/a",
        {},
        {"prompt": "https://cdn.example/a"},
        {"images": None},
        {"images": [{"url": None}]},
        {"images": [{"url": "javascript:alert(1)"}]},
        {"images": [{"url": "file:///etc/passwd"}]},
        {"images": [{"url": "https://cdn.example/" + "a" * 9000}]},
        {"images": [{"url": "data:image/png;base64,%%%"}]},
        {"images": [{"url": "data:nothing"}]},
    ],
)
def test_what_is_no_media_is_not_taken(result):
    assert find_outputs(result, "image") == []


def test_inline_media_becomes_bytes():
    url = "data:image/PNG;base64," + base64.b64encode(b"\x89PNG").decode()
    (output,) = find_outputs({"images": [{"url": url, "width": 4}]}, "image")
    assert (output.data, output.url, output.mime, output.meta) == (b"\x89PNG", None, "image/png", {"width": 4})


def test_the_providers_word_about_a_file_is_kept_as_a_hint():
    file = {
        "url": A,
        "content_type": "image/JPEG; q=1",
        "width": 4,
        "file_name": "a.jpg",
        "secret": "x",
        "height": None,
    }
    (output,) = find_outputs({"images": [file]}, "image")
    assert output.mime == "image/jpeg"
    assert output.meta == {"width": 4, "file_name": "a.jpg"}


def test_an_endless_list_is_cut():
    assert len(find_outputs({"images": [f"https://cdn.example/{i}" for i in range(10_000)]}, "image")) == OUTPUTS_MAX


def test_a_bottomless_answer_is_left_alone():
    deep: object = {"url": A}
    for _ in range(50):
        deep = [deep]
    assert find_outputs(deep, "image") == []


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from([A, "data:,x", "data:;base64,AA=="]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["url", "images", "video", "output", "x", "content_type"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON_VALUES, st.sampled_from(["image", "video", "audio", ""]))
def test_any_json_gives_outputs_with_exactly_one_source(result, kind):
    for output in find_outputs(result, kind):
        assert (output.url is None) != (output.data is None)
