"""Saving results: safe names, and files that are whole or not there."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from safelight.sdk import DownloadFailed
from safelight.sdk.files import Download, absolute, address, file_name
from safelight.sdk.resources import Generation, Page, Urls

ID = UUID("0197f6f0-0000-5000-8000-3f2a9c1b77d0")


def result(**fields) -> Generation:
    known = {"mime": "image/png", "model": "local/aurora", "urls": Urls(original="/media/a.png?sig=1")}
    return Generation(id=ID, project_id=ID, **{**known, **fields})


def test_a_file_is_named_after_its_model_and_its_id() -> None:
    assert file_name(result()) == "aurora-3f2a9c1b77d0.png"
    assert file_name(result(model=None, kind="video", mime="video/mp4")) == "video-3f2a9c1b77d0.mp4"


@pytest.mark.parametrize("model", ["../../etc/passwd", "a/..", "C:\\x", "-rf", "nul\0l", "ü" * 300, "a b;c", ""])
def test_no_model_name_can_leave_the_folder_or_surprise_a_shell(model: str) -> None:
    name = file_name(result(model=model))
    assert Path(name).name == name
    assert not name.startswith(("-", "."))
    assert len(name) < 100
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def test_a_type_that_we_do_not_know_gets_no_ending_that_opens_something() -> None:
    assert file_name(result(mime="text/html")).endswith(".bin")


def test_addresses_are_made_whole_also_inside_lists() -> None:
    page = absolute(
        "http://here:8080", Page(items=[result(urls=Urls(original="/a", poster="/p", thumbs={"256": "/t"}))])
    )
    assert page.items[0].urls == Urls(
        original="http://here:8080/a", poster="http://here:8080/p", thumbs={"256": "http://here:8080/t"}
    )
    elsewhere = absolute("http://here", result(urls=Urls(original="https://bucket/a")))
    assert address(elsewhere) == "https://bucket/a"


@pytest.mark.parametrize("original", ["file:///etc/passwd", "/a", "javascript:alert(1)", ""])
def test_only_http_addresses_are_fetched(original: str) -> None:
    with pytest.raises(DownloadFailed):
        address(result(urls=Urls(original=original)))


def test_a_generation_without_a_file_says_so() -> None:
    with pytest.raises(DownloadFailed, match="no file"):
        address(result(urls=None))


def test_a_file_appears_under_its_name_only_when_whole(tmp_path: Path) -> None:
    download = Download(result(bytes=6), tmp_path / "new" / "folder")
    download.begin(200, "")
    download.write(b"abc")
    assert not download.path.exists()
    with pytest.raises(DownloadFailed, match="3 of 6"):
        download.finish()
    download.write(b"def")
    assert download.finish().read_bytes() == b"abcdef"
    download.discard()
    assert [path.name for path in download.path.parent.iterdir()] == [download.path.name]


def test_a_download_that_broke_off_goes_on_where_it_was(tmp_path: Path) -> None:
    download = Download(result(bytes=6), tmp_path)
    download.begin(200, "")
    download.write(b"abc")
    assert download.headers == {"Range": "bytes=3-"}
    download.begin(206, "bytes 3-5/6")
    download.write(b"def")
    assert download.finish().read_bytes() == b"abcdef"


@pytest.mark.parametrize(("status", "content_range"), [(200, ""), (200, "bytes 3-5/6")])
def test_a_server_that_sends_it_all_again_makes_it_start_over(tmp_path: Path, status: int, content_range: str) -> None:
    download = Download(result(bytes=6), tmp_path)
    download.begin(200, "")
    download.write(b"xyz")
    download.begin(status, content_range)
    download.write(b"abcdef")
    assert download.finish().read_bytes() == b"abcdef"


@pytest.mark.parametrize(("status", "content_range"), [(206, "bytes 0-5/6"), (206, ""), (403, ""), (416, "")])
def test_a_part_that_is_not_the_rest_is_refused(tmp_path: Path, status: int, content_range: str) -> None:
    download = Download(result(bytes=6), tmp_path)
    download.begin(200, "")
    download.write(b"abc")
    with pytest.raises(DownloadFailed):
        download.begin(status, content_range)


def test_a_file_larger_than_announced_is_cut_off(tmp_path: Path) -> None:
    download = Download(result(bytes=3), tmp_path)
    download.begin(200, "")
    with pytest.raises(DownloadFailed, match="larger"):
        download.write(b"abcd")
    download.discard()
    assert list(tmp_path.iterdir()) == []


def test_the_same_result_twice_is_one_file(tmp_path: Path) -> None:
    for _ in range(2):
        download = Download(result(bytes=1), tmp_path)
        download.begin(200, "")
        download.write(b"a")
        download.finish()
    assert len(list(tmp_path.iterdir())) == 1
