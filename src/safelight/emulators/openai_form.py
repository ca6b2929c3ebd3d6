"""`multipart/form-data` as OpenAI's and Replicate's uploads send it. Pure; the body is bounded by whoever read it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from safelight.emulators.wire import BadBody

PARTS_MAX = 64
BOUNDARY = re.compile(r'boundary="?([^";]{1,200})"?')
NAME = re.compile(r'\bname="([^"]*)"')
FILE_NAME = re.compile(r'\bfilename="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Part:
    """One field. `file_name` is set for files."""

    name: str
    file_name: str | None
    mime: str | None
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode(errors="replace")


def read_form(content_type: str, body: bytes) -> list[Part]:
    """The parts in their order. Raises BadBody."""
    found = BOUNDARY.search(content_type)
    if not content_type.startswith("multipart/form-data") or found is None:
        raise BadBody(400, "multipart/form-data with a boundary is expected")
    pieces = (b"\r\n" + body).split(b"\r\n--" + found[1].encode())
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise BadBody(400, "the multipart body does not end")
    if len(pieces) - 2 > PARTS_MAX:
        raise BadBody(400, f"more than {PARTS_MAX} parts")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    head, gap, data = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.decode(errors="replace").split("\r\n"))
    }
    said = headers.get("content-disposition", "")
    name = NAME.search(said)
    if not gap or name is None:
        raise BadBody(400, "a part without a name")
    file_name = FILE_NAME.search(said)
    return Part(name[1], file_name[1] if file_name else None, headers.get("content-type"), data)
