"""What an input asks for, in the many words that models use."""

from __future__ import annotations

from typing import Any

import pytest

from safelight.emulators.wanted import Unwanted, Wanted, kind_of, read_wanted


@pytest.mark.parametrize(
    ("model", "given", "size"),
    [
        ("fal-ai/flux/dev", {}, (768, 768)),
        ("fal-ai/flux/dev", {"image_size": "landscape_16_9"}, (1024, 576)),
        ("fal-ai/flux/dev", {"image_size": {"width": 320, "height": 200}}, (320, 200)),
        ("fal-ai/flux/dev", {"width": 128}, (128, 768)),
        ("google/nano-banana", {"image_size": "16:9"}, (768, 432)),
        ("google/nano-banana", {"image_size": "auto"}, (768, 768)),
        ("nano-banana-pro", {"resolution": "1K", "aspect_ratio": "2:3"}, (682, 1024)),
        ("fal-ai/kling-video/v2/master", {}, (640, 360)),
        ("veo3", {"aspect_ratio": "9:16"}, (360, 640)),
        ("fal-ai/wan/t2v", {"resolution": "480p"}, (640, 360)),
        ("fal-ai/wan/t2v", {"resolution": "1080p"}, (640, 360)),
    ],
)
def test_sizes(model: str, given: dict[str, Any], size: tuple[int, int]):
    wanted = read_wanted(model, given, "png")
    assert (wanted.width, wanted.height) == size


@pytest.mark.parametrize(
    ("given", "duration_s"), [({}, 3.0), ({"duration": "5"}, 5.0), ({"duration": "8s"}, 8.0), ({"duration": 30}, 10.0)]
)
def test_lengths_of_clips(given: dict[str, Any], duration_s: float):
    assert read_wanted("fal-ai/veo3", given, "png").duration_s == duration_s


def test_the_number_and_format_of_pictures():
    wanted = read_wanted("fal-ai/flux/dev", {"num_images": 3, "output_format": "jpg"}, "png")
    assert wanted == Wanted("image", 3, 768, 768, 0.0, "jpeg")


@pytest.mark.parametrize(
    ("given", "type"),
    [
        ({"num_images": 0}, "greater_than_equal"),
        ({"num_images": 99}, "less_than_equal"),
        ({"num_images": "many"}, "int_type"),
        ({"width": 100_000}, "less_than_equal"),
        ({"image_size": {"width": 1, "height": 1}}, "greater_than_equal"),
        ({"output_format": "bmp"}, "literal_error"),
    ],
)
def test_what_no_model_takes_is_refused_in_the_providers_words(given: dict[str, Any], type: str):
    with pytest.raises(Unwanted) as refused:
        read_wanted("fal-ai/flux/dev", given, "png")
    assert refused.value.type == type


def test_models_are_told_apart_by_name():
    assert [kind_of(name) for name in ("fal-ai/flux/dev", "veo3_fast", "fal-ai/kling-video/v2", "nano-banana-2")] == [
        "image",
        "video",
        "video",
        "image",
    ]
