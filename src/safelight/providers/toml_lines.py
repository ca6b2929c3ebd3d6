"""Where in a TOML file a value stands, so that a mistake can name its line (pure).

`tomllib` says what is written but not where. This reads only as much as is needed for that: headers, keys, and how
far a value reaches. It never decides what a file means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

Path = tuple[str | int, ...]
"""Of a value in a file: names, and numbers within arrays, as `("error", 2, "code")`."""

BARE: Final = r"[A-Za-z0-9_-]+"
NAME: Final = rf"(?:{BARE}|\"[^\"\n]*\"|'[^'\n]*')"
HEADER: Final = re.compile(rf"^\s*(\[\[?)\s*({NAME}(?:\s*\.\s*{NAME})*)\s*\]\]?\s*(?:#.*)?$")
KEY: Final = re.compile(rf"^\s*({NAME}(?:\s*\.\s*{NAME})*)\s*=(.*)$")
STEP: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\.\.\.)\]")
AT: Final = re.compile(r"^(.*?)(?: - at `(?:key in )?\$(.*)`)?$", re.DOTALL)

TYPE: Final = re.compile(r"`(\w+)(?: \| null)?`")
WORDS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
}


class Lines:
    """The line of each value of one file."""

    def __init__(self, text: str) -> None:
        self._at: dict[Path, int] = {(): 1}
        self._read(text)

    def of(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it."""
        while path not in self._at:
            path = path[:-1]
        return self._at[path]

    def _read(self, text: str) -> None:
        table: Path = ()
        counts: dict[Path, int] = {}
        open_until: str | None = None
        depth = 0
        for number, line in enumerate(text.splitlines(), start=1):
            if open_until is not None or depth > 0:
                open_until, depth = _reach(line, open_until, depth)
                continue
            if header := HEADER.match(line):
                names = _names(header[2])
                table = _within(names[:-1], counts)
                table = (*table, names[-1])
                if header[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                    table = (*table, counts[table])
                elif table in counts:
                    table = (*table, counts[table])
                self._note(table, number)
            elif key := KEY.match(line):
                self._note((*table, *_names(key[1])), number)
                open_until, depth = _reach(key[2], None, 0)

    def _note(self, path: Path, number: int) -> None:
        for end in range(len(path), 0, -1):
            self._at.setdefault(path[:end], number)


def where(name: str, lines: Lines, path: Path, said: str) -> str:
    """One sentence: the file, the line, the field, and what is wrong with it."""
    field = shown(path)
    return f"{name}, line {lines.of(path)}, {field}: {said}" if field else f"{name}, line {lines.of(path)}: {said}"


def of_validation(error: msgspec.ValidationError) -> tuple[Path, str]:
    """The path and the words of msgspec's complaint."""
    found = AT.match(str(error))
    said, at = (found[1], found[2] or "") if found else (str(error), "")
    path = tuple(
        int(number) if number.isdigit() else name for name, number in STEP.findall(at) if name or number.isdigit()
    )
    unknown = re.search(r"unknown field `(.+?)`", said)
    missing = re.search(r"missing required field `(.+?)`", said)
    if unknown:
        return (*path, unknown[1]), "there is no such field"
    if missing:
        return (*path, missing[1]), "it is missing"
    words = TYPE.sub(lambda type: WORDS.get(type[1], type[1]), said)
    return path, words[:1].lower() + words[1:]


def shown(path: Path) -> str:
    """`error[2].code`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _names(dotted: str) -> Path:
    return tuple(name.strip("\"'") for name in re.findall(NAME, dotted))


def _within(names: Sequence[str | int], counts: dict[Path, int]) -> Path:
    """The table a header is inside of: below an array of tables it is the last of them."""
    path: Path = ()
    for name in names:
        path = (*path, name)
        if path in counts:
            path = (*path, counts[path])
    return path


def _reach(text: str, open_until: str | None, depth: int) -> tuple[str | None, int]:
    """After this piece of a value: the quotes that must still close, and how many brackets."""
    at = 0
    while at < len(text):
        if open_until is not None:
            if text[at] == "\\" and open_until[0] == '"':
                at += 2
                continue
            if text.startswith(open_until, at):
                at += len(open_until)
                open_until = None
                continue
        elif text[at] == "#":
            break
        elif text[at] in "\"'":
            open_until = text[at] * 3 if text.startswith(text[at] * 3, at) else text[at]
            at += len(open_until)
            continue
        elif text[at] in "[{":
            depth += 1
        elif text[at] in "]}":
            depth -= 1
        at += 1
    # A string of one line ends with its line, even where the file is wrong.
    return (open_until if open_until is not None and len(open_until) == 3 else None), max(depth, 0)
