"""What is shown of a large input: its words and its shape, never its files."""

from __future__ import annotations

import msgspec
import pytest

from safelight.providers.abridged import INPUT_BYTES_MAX, abridged, without_files

PICTURE = "data:image/png;base64," + "A" * 2_000_000


def test_an_input_of_words_is_shown_as_it_is() -> None:
    assert abridged({"prompt": "fox " * 5_000, "image_size": "square"}) is None


def test_a_file_is_named_and_what_stands_beside_it_is_kept() -> None:
    given = {"prompt": "a red fox", "image_size": {"width": 64, "height": 32}, "images": [PICTURE, "https://x/y.png"]}
    assert abridged(given) == {
        "prompt": "a red fox",
        "image_size": {"width": 64, "height": 32},
        "images": [f"data:image/png;base64,{'A' * 42}… (2,000,022 characters)", "https://x/y.png"],
    }
    assert given["images"][0] is PICTURE, "what was given is left alone"


def test_an_endless_text_is_cut_and_a_long_prompt_is_not() -> None:
    shown = abridged({"prompt": "p" * 20_000, "lyrics": "l" * 100_000})
    assert shown is not None
    assert shown["prompt"] == "p" * 20_000
    assert shown["lyrics"] == "l" * 20_000 + "… (100,000 characters)"


@pytest.mark.parametrize("heap", [list(range(100_000)), {str(name): name for name in range(20_000)}])
def test_of_a_heap_that_no_text_is_to_blame_for_the_prompt_and_what_is_short_stay(heap: object) -> None:
    shown = abridged({"prompt": "p" * 6_000, "seed": 7, "size": "1:1", "mask": None, "heap": heap})
    assert shown == {"prompt": "p" * 5_000, "seed": 7, "size": "1:1", "mask": None}


def test_what_is_shown_is_never_large() -> None:
    shown = abridged({"prompt": "\0" * 100_000, **{f"text {index}": "\0" * 90_000 for index in range(99)}})
    assert shown is not None
    assert len(msgspec.json.encode(shown)) <= INPUT_BYTES_MAX


def test_a_short_data_url_is_no_file() -> None:
    dot = {"image": "data:image/gif;base64,R0lGODlhAQABAAAAACw="}
    assert without_files(dot) == dot
