"""What ComfyUI's history, queue and error answers mean (pure). Truth is here; the socket is progress only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from safelight.providers.base import (
    JSON,
    Canceled,
    Failed,
    Failure,
    Observation,
    Output,
    Succeeded,
    Unchanged,
)
from safelight.providers.comfyui.workflow import Workflow
from safelight.providers.failures import failure
from safelight.providers.loose_json import as_list, as_object, as_text
from safelight.providers.outputs import OUTPUTS_MAX

MARK: Final = "safelight_attempt"
"""Our attempt's id in `extra_data`: older servers choose the prompt's id themselves."""
KINDS: Final[Mapping[str, frozenset[str]]] = {
    "image": frozenset({"png", "jpg", "jpeg", "webp", "gif", "avif", "bmp", "tiff"}),
    "video": frozenset({"mp4", "webm", "mov", "mkv", "gif", "webp"}),
    "audio": frozenset({"flac", "mp3", "wav", "ogg", "opus", "m4a"}),
}
FILE_NAME_MAX: Final = 500
OUT_OF_MEMORY: Final = ("outofmemory", "out of memory", "oom")
MESSAGE_MAX: Final = 300
QUEUED_MAX: Final = 100_000


def read_history(entry: Mapping[str, Any], workflow: Workflow | None, kind: str, api: str, seed: object) -> Observation:
    """The end of a prompt, as its history tells it. Only the messages tell a cancel from a failure."""
    status = as_object(entry.get("status"))
    told = dict(_messages(status))
    if "execution_interrupted" in told:
        return Canceled()
    if "execution_error" in told:
        return Failed(execution_failure(told["execution_error"]))
    said = status.get("status_str")
    if said == "error":
        return Failed(failure("provider_failed", transient=False, body=_short(status)))
    if said not in ("success", None):
        return Unchanged(f"history says {said!r}"[:200])
    outputs = list(_outputs(as_object(entry.get("outputs")), workflow, kind, api))
    if not outputs:
        return Failed(failure("no_output"))
    if isinstance(seed, int):
        for output in outputs:
            output.meta["seed"] = seed
    return Succeeded(outputs)


def _messages(status: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for message in as_list(status.get("messages")):
        parts = as_list(message)
        if len(parts) == 2 and isinstance(parts[0], str):
            yield parts[0], as_object(parts[1])


def execution_failure(told: Mapping[str, Any]) -> Failure:
    """A node broke. Only want of memory may be better next time: the same graph breaks the same way."""
    kind, said = str(told.get("exception_type") or ""), str(told.get("exception_message") or "")
    node = str(told.get("node_type") or "")
    words = f"{node}: {said}" if node else said
    transient = any(each in f"{kind} {said}".lower() for each in OUT_OF_MEMORY)
    body: JSON = {
        "node_id": str(told.get("node_id") or "")[:100],
        "node_type": node[:100],
        "exception_type": kind[:200],
        "exception_message": said[:1000],
    }
    return failure("provider_failed", words[:MESSAGE_MAX] or None, transient=transient, body=body)


def _outputs(outputs: Mapping[str, Any], workflow: Workflow | None, kind: str, api: str) -> Iterator[Output]:
    wanted = workflow.outputs if workflow is not None else frozenset[str]()
    found = [
        file
        for node, made in sorted(outputs.items(), key=lambda item: _number(item[0]))
        if not wanted or node in wanted
        for file in _files(as_object(made))
    ]
    fitting = [file for file in found if _ending(file["filename"]) in KINDS.get(kind, frozenset())] or found
    # Previews are only taken where nothing else was made.
    saved = [file for file in fitting if file["type"] == "output"] or fitting
    for file in saved[:OUTPUTS_MAX]:
        yield Output(url=f"{api}/view?{urlencode(file)}", meta={"file_name": file["filename"]})


def _files(made: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """`images`, `gifs`, `videos`, `audio`, …: whatever lists files (providers.md §5.5)."""
    for listed in made.values():
        for each in as_list(listed):
            about = as_object(each)
            name = as_text(about.get("filename"), FILE_NAME_MAX)
            folder, kind = about.get("subfolder") or "", about.get("type") or "output"
            if name is not None and isinstance(folder, str) and kind in ("output", "temp"):
                yield {"filename": name, "subfolder": folder[:FILE_NAME_MAX], "type": str(kind)}


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _number(node: str) -> tuple[int, str]:
    head = node.partition(":")[0]
    return (int(head), node) if head.isdecimal() and len(head) < 10 else (10**9, node)


def _short(status: Mapping[str, Any]) -> JSON:
    return {"status_str": str(status.get("status_str"))[:100]}


# --- the queue --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A prompt in the queue, or of the history."""

    number: float
    prompt_id: str
    graph: Mapping[str, Any]
    extra: Mapping[str, Any]

    def is_of(self, attempt_id: str) -> bool:
        return self.prompt_id == attempt_id or self.extra.get(MARK) == attempt_id


def queued(queue: Mapping[str, Any], name: str) -> list[Entry]:
    """`queue_running` or `queue_pending`, first to run first."""
    found = [entry for item in as_list(queue.get(name))[:QUEUED_MAX] if (entry := _entry(item)) is not None]
    return sorted(found, key=lambda each: each.number)


def remembered(history: Mapping[str, Any]) -> Iterator[Entry]:
    """The prompts of a history, as they were queued."""
    for about in history.values():
        entry = _entry(as_object(about).get("prompt"))
        if entry is not None:
            yield entry


def _entry(item: object) -> Entry | None:
    parts = as_list(item)
    if len(parts) < 4 or not isinstance(parts[0], int | float) or not isinstance(parts[1], str):
        return None
    return Entry(parts[0], parts[1], as_object(parts[2]), as_object(parts[3]))


# --- refusals ---------------------------------------------------------------------------------------------------


def refusal(data: Mapping[str, Any], workflow: Workflow, status: int, body: Any) -> Failure:
    """Why a prompt was not taken: the caller's value, or a workflow that does not fit this server."""
    error = as_object(data.get("error"))
    words = str(error.get("message") or "").strip() or None
    ours = {(slot.node, slot.input) for slots in workflow.bind.values() for slot in slots}
    code = "provider_refused"
    for node, about in as_object(data.get("node_errors")).items():
        for each in as_list(as_object(about).get("errors")):
            one = as_object(each)
            kind = str(as_object(about).get("class_type") or "node")
            words = f"{kind}: {one.get('message')}, {one.get('details')}"
            if (node, as_object(one.get("extra_info")).get("input_name")) in ours:
                return failure("invalid_input", words, status=status, body=body)
    return failure(code, words, status=status, body=body)
