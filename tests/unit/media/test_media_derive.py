"""What a tile shows before the original (M2)."""

import io
import wave
from base64 import b64decode
from pathlib import Path

import av
import pytest
from PIL import Image, ImageDraw
from thumbhash import thumb_hash_to_approximate_aspect_ratio, thumb_hash_to_average_rgba

from safelight.media import synth
from safelight.media.derive import Derived, derive_large, is_light, look_at
from safelight.media.errors import ResultTruncated
from safelight.media.mediatype import sniff
from safelight.media.probe import Probed, decode_picture, probe


def encoded(image: Image.Image, fmt: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def derived_from(path: Path, probed: Probed) -> Derived:
    again, derived = look_at(path, probed.mime)
    assert again == probed
    return derived


@pytest.fixture
def file(tmp_path):
    def file(data: bytes):
        path = tmp_path / "file"
        path.write_bytes(data)
        media = sniff(data[:4096])
        assert media is not None
        return path, probe(path, media.mime)

    return file


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp"])
def test_a_picture_gets_a_small_thumbnail_and_a_hash(file, fmt):
    derived = derived_from(*file(synth.picture("fox", 1, 800, 400, fmt)))
    thumb = opened(derived.thumbs[256])
    assert (thumb.format, thumb.size) == ("WEBP", (256, 128))
    assert derived.poster is None
    code = list(b64decode(derived.thumbhash))
    assert 1.2 < thumb_hash_to_approximate_aspect_ratio(code) < 3
    average = thumb_hash_to_average_rgba(code)
    true = thumb.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert all(abs(a * 255 - b) < 16 for a, b in zip(average, true, strict=False))


def test_later_come_the_large_thumbnail_and_avif(file):
    large = derive_large(*file(synth.picture("fox", 1, 1500, 1000)))
    assert opened(large.thumbs[1024]).size == (1024, 683)
    assert {side: opened(data).size for side, data in large.avif.items()} == {256: (256, 171), 1024: (1024, 683)}
    assert opened(large.avif[256]).format == "AVIF"


@pytest.mark.parametrize(
    ("mime", "width", "height", "size", "light"),
    [
        ("image/jpeg", 1024, 768, 100_000, True),
        ("image/webp", 512, 512, 400_000, True),
        ("image/avif", 1024, 1024, 50_000, True),
        ("image/png", 512, 512, 100_000, False),  # WebP is a fraction of it
        ("image/jpeg", 1025, 768, 100_000, False),
        ("image/jpeg", 768, 1025, 100_000, False),
        ("image/jpeg", 1024, 768, 400_001, False),
        ("video/mp4", 512, 512, 100_000, False),
    ],
)
def test_an_original_that_is_light_enough_needs_no_large_thumbnail(mime, width, height, size, light):
    assert is_light(Probed(mime.partition("/")[0], mime, width, height, None), size) is light


def test_a_small_picture_is_never_enlarged(file):
    path, probed = file(synth.picture("fox", 1, 40, 20))
    assert opened(derived_from(path, probed).thumbs[256]).size == (40, 20)
    assert opened(derive_large(path, probed).thumbs[1024]).size == (40, 20)


def test_extreme_shapes_keep_at_least_one_pixel(file):
    derived = derived_from(*file(encoded(Image.new("RGB", (3000, 2), "red"), "PNG")))
    assert opened(derived.thumbs[256]).size == (256, 1)
    assert derived.thumbhash


def test_a_turned_photo_stands_upright(file):
    image = Image.new("RGB", (400, 200), "blue")
    ImageDraw.Draw(image).rectangle((0, 0, 100, 200), fill="red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter clockwise: what is left is shown on top
    thumb = opened(derived_from(*file(encoded(image, "JPEG", exif=exif))).thumbs[256]).convert("RGB")
    assert thumb.size == (128, 256)
    red, _, blue = thumb.getpixel((64, 10))
    assert red > 200 > blue


def test_transparency_is_kept(file):
    image = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((50, 50, 250, 250), fill=(255, 0, 0, 255))
    for fmt in ("PNG", "WEBP"):
        derived = derived_from(*file(encoded(image, fmt)))
        thumb = opened(derived.thumbs[256])
        assert thumb.mode == "RGBA"
        assert thumb.getpixel((2, 2))[3] == 0
        assert thumb.getpixel((128, 128))[3] == 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "CMYK"])
def test_unusual_colour_modes_become_a_picture(file, mode):
    image = Image.linear_gradient("L").resize((300, 300))
    if mode == "I;16":
        image = Image.frombytes("I;16", (300, 300), (40_000).to_bytes(2, "little") * 90_000)
    else:
        image = image.convert(mode)
    derived = derived_from(*file(encoded(image, "JPEG" if mode == "CMYK" else "PNG")))
    thumb = opened(derived.thumbs[256]).convert("L")
    if mode == "I;16":
        assert abs(thumb.getpixel((128, 128)) - 156) < 6
    else:
        assert thumb.getpixel((128, 250)) > thumb.getpixel((128, 5)) + 100


def test_a_colour_profile_goes_along(file):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    derived = derived_from(*file(encoded(Image.new("RGB", (300, 300), "red"), "PNG", icc_profile=profile)))
    assert opened(derived.thumbs[256]).info["icc_profile"] == profile


def fading_in(frames: int, dark: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for n in range(frames):
            colour = (0, 0, 0) if n < dark else (230, 120, 20)
            container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (320, 180), colour))))
        container.mux(stream.encode(None))
    return out.getvalue()


def test_a_video_gets_a_poster_that_is_not_its_black_beginning(file):
    derived = derived_from(*file(fading_in(20, dark=5)))
    poster = opened(derived.poster)
    assert (poster.format, poster.size) == ("WEBP", (320, 180))
    assert poster.convert("RGB").getpixel((100, 100))[0] > 180
    assert opened(derived.thumbs[256]).size == (256, 144)
    assert derived.thumbhash


def test_a_video_black_throughout_still_gets_a_poster(file):
    assert derived_from(*file(fading_in(8, dark=8))).poster


def test_sound_has_nothing_to_show(file):
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16_000))
    derived = derived_from(*file(out.getvalue()))
    assert (derived.thumbs, derived.poster, derived.thumbhash) == ({}, None, None)


@pytest.mark.parametrize("fmt", ["png", "jpeg"])
def test_a_picture_that_ends_too_early_is_noticed_while_it_is_made_small(file, fmt):
    path, probed = file(synth.picture("fox", 1, 800, 800, fmt))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ResultTruncated):
        look_at(path, probed.mime)


@pytest.mark.parametrize("fmt", ["png", "jpeg"])
def test_a_picture_is_decoded_once(file, monkeypatch, fmt):
    path, probed = file(synth.picture("fox", 1, 1600, 800, fmt))
    get_decoder, decoders = Image._getdecoder, list[str]()
    monkeypatch.setattr(
        Image, "_getdecoder", lambda mode, name, *more: [decoders.append(name), get_decoder(mode, name, *more)][1]
    )
    found, derived = look_at(path, probed.mime)
    assert len(decoders) == 1
    assert (found.width, found.height) == (1600, 800)
    assert opened(derived.thumbs[256]).size == (256, 128)


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(file):
    path, probed = file(synth.picture("fox", 1, 1600, 800, "jpeg"))
    whole, image = decode_picture(path, probed.mime, side=384)
    assert image.size == (400, 200)
    assert (whole.width, whole.height) == (1600, 800)


def test_a_file_that_breaks_after_probing_is_a_media_error(file, tmp_path):
    path, probed = file(synth.picture("fox", 1, 200, 200))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ResultTruncated):
        derived_from(path, probed)
