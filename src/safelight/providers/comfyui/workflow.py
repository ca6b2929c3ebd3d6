"""A user's ComfyUI workflow as a model: its graph as exported, and which variable goes into which node's input.

Two files side by side: `portrait.json`, exported by ComfyUI (Workflow > Export (API)), and `portrait.toml`, which
names the variables. What the TOML does not say is taken from the graph: the value that stands there is the default.
A mistake names the file, the line and the field, as everywhere.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from safelight.providers.base import JSON
from safelight.providers.loose_json import as_object
from safelight.providers.model import Model
from safelight.providers.model_faults import faults_of
from safelight.providers.toml_lines import Lines, of_validation, where
from safelight.providers.toml_lines import Path as At

PROVIDER: Final = "comfyui"
FILE_BYTES_MAX: Final = 4_000_000
WORKFLOWS_MAX: Final = 500
COUNT: Final = "n"
"""The variable that takes the number of results, usually a batch size."""
SEEDS: Final = frozenset({"seed", "noise_seed"})
SEED_MAX: Final = 2**53 - 1
"""ComfyUI takes larger ones, but a browser cannot say them."""
SEED_BYTES: Final = 6
OUTPUTS_DEFAULT: Final = 4


class WorkflowError(ValueError):
    """A workflow's files are wrong; each line of the text is one mistake."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One input of one node."""

    node: str
    input: str


@dataclass(frozen=True, slots=True)
class Workflow:
    name: str
    """What routes call its endpoint: the file's name without its ending."""
    graph: Mapping[str, Mapping[str, Any]]
    bind: Mapping[str, Sequence[Slot]]
    images: frozenset[str]
    """Variables that are pictures: they are uploaded before the graph is sent."""
    seeds: frozenset[str]
    outputs: frozenset[str]
    """Nodes whose files are the results; empty: all that save something."""
    model: Model

    def filled(self, values: Mapping[str, Any]) -> JSON:
        """The graph with these values in their places."""
        graph: JSON = copy.deepcopy(dict(self.graph))
        for name, value in values.items():
            for slot in self.bind[name]:
                graph[slot.node]["inputs"][slot.input] = value
        return graph

    def drawn_seed(self, attempt_id: str) -> int:
        """Another one for each attempt, the same whenever it is asked for: else ComfyUI would show its last result."""
        return int.from_bytes(hashlib.sha256(attempt_id.encode()).digest()[:SEED_BYTES])


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    workflow: str
    bind: Mapping[str, str | tuple[str, ...]]
    model: Mapping[str, Any]
    outputs: tuple[str, ...] = ()


def load_workflows(folder: Path) -> list[Workflow]:
    """Every `*.toml` of the folder, with the graph it names. Raises WorkflowError."""
    try:
        files = sorted(folder.glob("*.toml")) if folder.is_dir() else None
    except OSError as error:
        raise WorkflowError(f"{folder}: cannot be read ({error.strerror}).") from error
    if files is None:
        raise WorkflowError(f"{folder}: there is no such folder.")
    if len(files) > WORKFLOWS_MAX:
        raise WorkflowError(f"{folder}: more than {WORKFLOWS_MAX} workflows.")
    return [read_workflow(file) for file in files]


def read_workflow(file: Path) -> Workflow:
    """One workflow by its TOML file. Raises WorkflowError."""
    text = _text(file, str(file))
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WorkflowError(f"{file}: {error}.") from None
    lines = Lines(text)
    try:
        about = msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        path, said = of_validation(error)
        raise WorkflowError(where(str(file), lines, path, said + ".")) from None
    there = file.parent / about.workflow
    if there.parent != file.parent:
        raise WorkflowError(where(str(file), lines, ("workflow",), "the graph lies beside this file."))
    graph = _graph(there, where(str(file), lines, ("workflow",), ""))
    wrong: list[tuple[At, str]] = []
    bind = _bindings(about, graph, wrong)
    outputs = _outputs(about, graph, wrong)
    found = _model(file.stem, about, graph, bind, wrong)
    if wrong or found is None:
        raise WorkflowError("\n".join(where(str(file), lines, path, said + ".") for path, said in wrong))
    return Workflow(
        name=file.stem,
        graph=graph,
        bind=bind,
        images=frozenset(field.name for field in found.fields if field.type == "image"),
        seeds=frozenset(name for name, slots in bind.items() if _is_seed(name, slots)),
        outputs=outputs,
        model=found,
    )


# --- the graph --------------------------------------------------------------------------------------------------


def _text(file: Path, named: str) -> str:
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise WorkflowError(f"{named}: larger than {FILE_BYTES_MAX} bytes.")
        return file.read_text("utf-8")
    except OSError as error:
        raise WorkflowError(f"{named}: {file.name} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError:
        raise WorkflowError(f"{named}: it is not UTF-8.") from None


def _graph(file: Path, named: str) -> dict[str, dict[str, Any]]:
    text = _text(file, named.rstrip(": "))
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise WorkflowError(f"{file}, line {error.lineno}: it is no JSON, {error.msg.lower()}.") from None
    nodes = as_object(raw)
    if isinstance(nodes.get("nodes"), list):
        raise WorkflowError(f"{file}: this is the editor's form; export it with Workflow > Export (API) instead.")
    graph: dict[str, dict[str, Any]] = {}
    for name, node in nodes.items():
        inputs = as_object(node).get("inputs")
        if not isinstance(as_object(node).get("class_type"), str) or not isinstance(inputs, dict):
            raise WorkflowError(f"{file}: {name!r} is no node: a node has a class_type and inputs.")
        graph[name] = dict(as_object(node))
    if not graph:
        raise WorkflowError(f"{file}: there is no node in it.")
    return graph


def title_of(node: Mapping[str, Any]) -> str:
    """What the editor shows as the node's name."""
    title = as_object(node.get("_meta")).get("title")
    return title if isinstance(title, str) and title else str(node.get("class_type", ""))


def _bindings(
    about: _File, graph: Mapping[str, Mapping[str, Any]], wrong: list[tuple[At, str]]
) -> dict[str, tuple[Slot, ...]]:
    bind: dict[str, tuple[Slot, ...]] = {}
    for name, said in about.bind.items():
        at: At = ("bind", name)
        slots: list[Slot] = []
        for each in (said,) if isinstance(said, str) else said:
            found = _slot(each, graph)
            if isinstance(found, Slot):
                slots.append(found)
            else:
                wrong.append((at, found))
        if not name or name.startswith("_"):
            wrong.append((at, "a name may not be empty nor begin with `_`"))
        bind[name] = tuple(slots)
    return bind


def _slot(said: str, graph: Mapping[str, Mapping[str, Any]]) -> Slot | str:
    """The place that `3.seed` or `Sampler.seed` names, or what is wrong with it."""
    node, dot, name = said.rpartition(".")
    if not dot or not node or not name:
        return f"{said!r} is no place; one is `3.seed`, a node's number or title and its input"
    titled = [each for each, about in graph.items() if title_of(about) == node]
    if node not in graph:
        if len(titled) > 1:
            return f"{len(titled)} nodes are called {node!r}; use a number: {', '.join(titled)}"
        if not titled:
            return f"there is no node {node!r}; there are {_listed(f'{n} ({title_of(a)})' for n, a in graph.items())}"
        node = titled[0]
    inputs = graph[node]["inputs"]
    if name not in inputs:
        return f"node {node} has no input {name!r}; it has {_listed(inputs)}"
    if isinstance(inputs[name], list):
        return f"{name!r} of node {node} comes from another node and cannot be set"
    return Slot(node, name)


def _listed(names: Iterable[str]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:12]) + (", …" if len(shown) > 12 else "") if shown else "none"


def _outputs(about: _File, graph: Mapping[str, Mapping[str, Any]], wrong: list[tuple[At, str]]) -> frozenset[str]:
    found: set[str] = set()
    for said in about.outputs:
        named = [name for name, node in graph.items() if said in (name, title_of(node))]
        if not named:
            wrong.append((("outputs",), f"there is no node {said!r}"))
        found.update(named)
    return frozenset(found)


# --- the model --------------------------------------------------------------------------------------------------


def _model(
    stem: str,
    about: _File,
    graph: Mapping[str, Mapping[str, Any]],
    bind: Mapping[str, Sequence[Slot]],
    wrong: list[tuple[At, str]],
) -> Model | None:
    raw: JSON = dict(about.model)
    given = cast("list[Any]", raw.get("fields", []))
    named: dict[str, JSON] = {str(as_object(each).get("name")): dict(as_object(each)) for each in given}
    for index, each in enumerate(given):
        name = as_object(each).get("name")
        if isinstance(name, str) and name not in bind:
            wrong.append((("model", "fields", index, "name"), f"{name!r} is not bound to any node"))
    raw["fields"] = [
        {**_field(name, slots, graph), **named.get(name, {})} for name, slots in bind.items() if name != COUNT and slots
    ]
    starts = [field["name"] for field in raw["fields"] if field.get("type") == "image"]
    usual: JSON = {
        "id": f"{PROVIDER}/{stem}",
        "name": stem.replace("_", " ").replace("-", " ").capitalize(),
        "kind": "image",
        "description": "",
        "routes": [{"provider": PROVIDER, "endpoint": stem}],
    }
    if COUNT in bind:
        usual |= {"n_field": COUNT, "max_outputs": OUTPUTS_DEFAULT}
    if starts:
        usual["start_field"] = starts[0]
    try:
        model = msgspec.convert({**usual, **raw}, Model)
    except msgspec.ValidationError as error:
        path, said = of_validation(error)
        wrong.append((("model", *path), said))
        return None
    wrong += [(("model",), said) for said in faults_of(model)]
    return model


def _field(name: str, slots: Sequence[Slot], graph: Mapping[str, Mapping[str, Any]]) -> JSON:
    """What the graph says of a variable: its type and the value that stands there."""
    slot = slots[0]
    node = graph[slot.node]
    there = node["inputs"][slot.input]
    field: JSON = {"name": name, "label": name.replace("_", " ").capitalize(), "type": "text"}
    if str(node["class_type"]).startswith("LoadImage") and slot.input == "image":
        return {**field, "type": "image", "required": True}
    if _is_seed(name, slots):
        return {**field, "type": "int", "min": 0, "max": SEED_MAX, "advanced": True}
    if name == "prompt":
        return {**field, "required": True, "max_length": 20_000}
    if isinstance(there, bool):
        return {**field, "type": "bool", "default": there}
    if isinstance(there, int):
        return {**field, "type": "int", "default": there}
    if isinstance(there, float):
        return {**field, "type": "number", "default": there}
    return {**field, "default": there} if isinstance(there, str) else field


def _is_seed(name: str, slots: Sequence[Slot]) -> bool:
    return name in SEEDS or any(slot.input in SEEDS for slot in slots)


def steps_of(graph: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The nodes that say how many steps they take: what progress is measured by."""
    for name, node in graph.items():
        steps = as_object(as_object(node).get("inputs")).get("steps")
        if isinstance(steps, int) and not isinstance(steps, bool) and 1 < steps <= 100_000:
            yield name, steps
