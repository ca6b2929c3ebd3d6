"""ComfyUI: how a workflow becomes a model, what progress is honest, and what history and refusals mean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from safelight.providers.base import (
    AccountProblem,
    Ambiguous,
    Canceled,
    Failed,
    Refused,
    Rejected,
    Running,
    Succeeded,
    Unchanged,
)
from safelight.providers.comfyui import ComfyProvider, ComfySettings, WorkflowError, load_workflows, read_workflow
from safelight.providers.comfyui.history import queued, read_history, refusal, remembered
from safelight.providers.comfyui.progress import Track
from safelight.providers.comfyui.provider import _submit_error
from safelight.providers.factory import ProviderSettings, build_providers
from safelight.providers.http import Answer
from safelight.providers.model_input import validate_input
from safelight.providers.registry import Registry

WORKFLOWS = Path(__file__).parents[2] / "integration" / "providers" / "comfyui_workflows"
PORTRAIT = read_workflow(WORKFLOWS / "portrait.toml")
GRAPH = PORTRAIT.graph


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WORKFLOWS, tmp_path / "workflows"))


def answer(data: object, status: int = 200) -> Answer:
    return Answer(status, {}, data, json.dumps(data))


# --- workflows --------------------------------------------------------------------------------------------------


def test_a_workflow_is_a_model_whose_defaults_stand_in_its_graph():
    model = PORTRAIT.model
    assert (model.id, model.name, model.kind, model.provider) == ("comfyui/portrait", "Portrait", "image", "comfyui")
    fields = {field.name: field for field in model.fields}
    assert list(fields) == ["prompt", "negative", "seed", "steps", "width", "height"]
    assert fields["prompt"].required
    assert fields["prompt"].default is None
    assert fields["negative"].default == "blurry"
    assert (fields["width"].type, fields["width"].default) == ("int", 128)
    assert fields["steps"].max == 20000
    assert fields["seed"].default is None
    assert (model.n_field, model.max_outputs) == ("n", 4)


def test_a_picture_that_a_workflow_loads_is_its_start_image():
    restyle = read_workflow(WORKFLOWS / "restyle.toml")
    assert restyle.model.start_field == "picture"
    assert restyle.model.needs_start
    assert restyle.images == {"picture"}


def test_variables_go_to_their_places_and_the_rest_of_the_graph_stays():
    complete = validate_input(PORTRAIT.model, {"prompt": "a fox", "steps": 7}, n=2)
    filled = PORTRAIT.filled(complete)
    assert filled["6"]["inputs"]["text"] == "a fox"
    assert filled["3"]["inputs"]["steps"] == 7
    assert filled["5"]["inputs"] == {"width": 128, "height": 96, "batch_size": 2}
    assert filled["3"]["inputs"]["model"] == ["4", 0]
    assert GRAPH["6"]["inputs"]["text"] == "a cat"


def test_a_seed_that_is_not_given_differs_by_attempt_and_stays_the_attempts():
    drawn = {PORTRAIT.drawn_seed(attempt) for attempt in ("a", "b", "c")}
    assert len(drawn) == 3
    assert PORTRAIT.drawn_seed("a") in drawn
    assert all(0 <= seed < 2**53 for seed in drawn)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"portrait.json"', '"portrait.jsn"', "line 1, workflow: portrait.jsn cannot be read"),
        ('"portrait.json"', '"../portrait.json"', "line 1, workflow: the graph lies beside this file"),
        ('"Sampler.seed"', '"Sampler.sed"', "line 6, bind.seed: node 3 has no input 'sed'; it has seed, steps, cfg"),
        ('"Sampler.seed"', '"Smplr.seed"', "line 6, bind.seed: there is no node 'Smplr'; there are 3 (Sampler), 4"),
        ('"Sampler.seed"', '"Sampler.model"', "line 6, bind.seed: 'model' of node 3 comes from another node"),
        ('"Sampler.seed"', '"seed"', "line 6, bind.seed: 'seed' is no place"),
        ("[bind]", "[bnd]", "there is no such field"),
        ('"picture", amount', '"pixel", amount', "line 15, model.price.unit: "),
        ('name = "Portrait"\n', 'name = "Portrait"\nnme = 1\n', "line 14, model.nme: there is no such field."),
        ('name = "steps"', 'name = "stps"', "model.fields[0].name: 'stps' is not bound to any node"),
        ("workflow =", "outputs = ['12']\nworkflow =", "line 1, outputs: there is no node '12'"),
    ],
)
def test_a_mistake_names_the_file_the_line_and_the_field(folder, old, new, said):
    file = folder / "portrait.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(WorkflowError) as caught:
        load_workflows(folder)
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ('{"nodes": [], "links": []}', "this is the editor's form; export it with Workflow > Export (API) instead"),
        ('{\n"3": {,}}', "line 2: it is no JSON"),
        ('{"3": {"inputs": {}}}', "'3' is no node"),
        ("{}", "there is no node in it"),
        ("[]", "there is no node in it"),
    ],
)
def test_a_graph_that_is_none_is_told_so(folder, graph, said):
    (folder / "portrait.json").write_text(graph)
    with pytest.raises(WorkflowError) as caught:
        load_workflows(folder)
    assert said in str(caught.value)


def test_two_nodes_of_one_title_are_told_apart_by_number(folder):
    file = folder / "portrait.json"
    file.write_text(file.read_text().replace('"Negative"', '"Positive"'))
    with pytest.raises(WorkflowError, match="2 nodes are called 'Positive'; use a number: 6, 7"):
        load_workflows(folder)


def test_a_folder_that_is_not_there_is_told_so(tmp_path):
    with pytest.raises(WorkflowError, match="there is no such folder"):
        load_workflows(tmp_path / "absent")


def test_workflows_are_models_beside_all_others():
    workflows = load_workflows(WORKFLOWS)
    registry = Registry.load(None, [workflow.model for workflow in workflows])
    assert {"comfyui/portrait", "comfyui/restyle", "comfyui/film"} <= {model.id for model in registry}
    assert build_providers(ProviderSettings())["comfyui"].disabled == (
        "Set SAFELIGHT_COMFYUI_URL to the address of a ComfyUI server."
    )


@pytest.mark.parametrize("url", ["127.0.0.1:8188", "ftp://x", "http://u:p@x", "http://x/?a=1", ""])
def test_an_address_that_is_none_is_refused(url):
    async def bring(_: str, __: Path) -> str:
        return "image/png"

    with pytest.raises(ValueError, match="ComfyUI's address"):
        ComfyProvider(ComfySettings(url=url, workflows=(), bring=bring))


# --- progress ---------------------------------------------------------------------------------------------------


def test_progress_is_steps_done_of_steps_to_do():
    track = Track(GRAPH)
    assert track.running() == Running(None, None)
    track.take("execution_cached", {"nodes": []})
    track.take("executing", {"node": "4"})
    assert track.running() == Running(None, "CheckpointLoaderSimple")
    track.take("progress", {"node": "3", "value": 5, "max": 20})
    assert track.running() == Running(25.0, "Sampler 5/20")
    track.take("progress", {"node": "3", "value": 20, "max": 20})
    track.take("executing", {"node": "8"})
    assert track.running() == Running(100.0, "VAEDecode")


def test_two_samplers_share_the_percent():
    second = {**GRAPH, "13": {"class_type": "KSampler", "inputs": {"steps": 60}, "_meta": {"title": "Refine"}}}
    track = Track(second)
    track.take("progress", {"node": "3", "value": 10, "max": 20})
    assert track.running().percent == 12.5
    track.take("executing", {"node": "3"})
    track.take("executing", {"node": "13"})
    assert track.running().percent == 25.0
    track.take("progress", {"node": "13", "value": 30, "max": 60})
    assert track.running() == Running(62.5, "Refine 30/60")


def test_progress_never_goes_back_and_is_never_invented():
    track = Track({"1": {"class_type": "Odd", "inputs": {}}})
    track.take("executing", {"node": "1"})
    track.take("progress_state", {"nodes": {"1": {"value": 1, "max": 1, "state": "running"}}})
    assert track.running() == Running(None, "Odd")

    track = Track(GRAPH)
    track.take("progress", {"node": "3", "value": 12, "max": 20})
    assert track.running().percent == 60.0
    track.take("progress", {"node": "3", "value": 2, "max": 20})
    track.take("progress", {"node": "99", "value": 1, "max": 100})
    assert track.running().percent == 60.0


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"nodes": "all"},
        {"node": 3, "value": 1, "max": 2},
        {"node": "3", "value": "1", "max": 20},
        {"node": "3", "value": 30, "max": 20},
        {"node": "3", "value": True, "max": 20},
        {"node": "3", "value": float("nan"), "max": 20},
    ],
)
def test_an_event_of_another_form_changes_nothing(data):
    track = Track(GRAPH)
    for kind in ("progress", "progress_state", "executing", "execution_cached", "status", "executed"):
        track.take(kind, data)
    assert track.running().percent is None


# --- history ----------------------------------------------------------------------------------------------------


def entry(outputs: object = None, status: str | None = "success", *messages: tuple[str, dict]) -> dict:
    return {"outputs": outputs or {}, "status": {"status_str": status, "messages": [list(each) for each in messages]}}


def seen(about: dict, kind: str = "image"):
    return read_history(about, PORTRAIT, kind, "http://comfy:8188", 7)


def test_saved_files_are_the_results_in_the_order_of_their_nodes():
    made = seen(
        entry(
            {
                "12": {"images": [{"filename": "b.png", "subfolder": "x y", "type": "output"}]},
                "9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}], "text": ["a note"]},
                "4": {"images": [{"filename": "preview.png", "subfolder": "", "type": "temp"}]},
            }
        )
    )
    assert isinstance(made, Succeeded)
    assert [output.url for output in made.outputs] == [
        "http://comfy:8188/view?filename=a.png&subfolder=&type=output",
        "http://comfy:8188/view?filename=b.png&subfolder=x+y&type=output",
    ]
    assert made.outputs[0].meta == {"file_name": "a.png", "seed": 7}


def test_a_clip_is_found_under_images_or_gifs_and_told_by_its_ending():
    for key in ("images", "gifs", "video"):
        files = [{"filename": "a.png", "type": "output"}, {"filename": "a.mp4", "type": "output", "frame_rate": 24}]
        made = seen(entry({"9": {key: files, "animated": [True]}}), "video")
        assert isinstance(made, Succeeded)
        assert [output.meta["file_name"] for output in made.outputs] == ["a.mp4"]


def test_a_preview_is_taken_only_where_nothing_was_saved():
    made = seen(entry({"9": {"images": [{"filename": "p.png", "subfolder": "", "type": "temp"}]}}))
    assert isinstance(made, Succeeded)
    assert len(made.outputs) == 1


@pytest.mark.parametrize(
    "outputs", [{}, {"9": {"text": ["hello"]}}, {"9": None}, {"9": {"images": [{"type": "input"}]}}]
)
def test_success_without_a_file_is_no_output(outputs):
    made = seen(entry(outputs))
    assert isinstance(made, Failed)
    assert made.failure.code == "no_output"


def test_only_the_messages_tell_a_cancel_from_a_failure():
    assert seen(entry({}, "error", ("execution_interrupted", {"node_id": "3"}))) == Canceled()
    broken = seen(
        entry(
            {},
            "error",
            (
                "execution_error",
                {"node_type": "KSampler", "exception_type": "RuntimeError", "exception_message": "bad"},
            ),
        )
    )
    assert isinstance(broken, Failed)
    assert broken.failure.message == "The provider could not make this: KSampler: bad"
    assert not broken.failure.transient
    bare = seen(entry({}, "error"))
    assert isinstance(bare, Failed)
    assert not bare.failure.transient


def test_only_want_of_memory_may_be_better_next_time():
    oom = seen(entry({}, "error", ("execution_error", {"exception_type": "torch.OutOfMemoryError"})))
    assert isinstance(oom, Failed)
    assert oom.failure.transient


def test_a_status_nobody_knows_changes_nothing():
    assert isinstance(seen(entry({}, "pondering")), Unchanged)


def test_a_status_may_be_absent():
    about = {"outputs": {"9": {"images": [{"filename": "a.png", "type": "output"}]}}, "status": None}
    assert isinstance(seen(about), Succeeded)


def test_the_queue_is_read_by_its_numbers_and_oddities_are_passed_over():
    queue = {"queue_pending": [[7, "b", {}, {"safelight_attempt": "x"}, []], [2, "a", {}, {}, []], [1], None, "odd"]}
    assert [each.prompt_id for each in queued(queue, "queue_pending")] == ["a", "b"]
    assert queued(queue, "queue_running") == []
    (one,) = remembered({"b": {"prompt": [7, "b", {}, {"safelight_attempt": "x"}]}, "c": {}, "d": None})
    assert one.is_of("x")
    assert one.is_of("b")
    assert not one.is_of("c")


# --- refusals ---------------------------------------------------------------------------------------------------


def validation(node: str, name: str, kind: str = "value_bigger_than_max") -> dict:
    errors = [{"type": kind, "message": "Value too big", "details": name, "extra_info": {"input_name": name}}]
    return {
        "error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"},
        "node_errors": {node: {"errors": errors, "class_type": "KSampler"}},
    }


def test_a_refused_value_of_the_callers_is_told_from_a_workflow_that_does_not_fit_the_server():
    assert refusal(validation("3", "steps"), PORTRAIT, 400, None).code == "invalid_input"
    theirs = refusal(validation("4", "ckpt_name"), PORTRAIT, 400, None)
    assert theirs.code == "provider_refused"
    assert "KSampler: Value too big, ckpt_name" in theirs.message
    assert refusal({"error": {"message": "Node 'X' not found."}}, PORTRAIT, 400, None).code == "provider_refused"
    assert refusal({}, PORTRAIT, 400, None).code == "provider_refused"


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (200, Ambiguous),
        (400, Rejected),
        (401, AccountProblem),
        (403, AccountProblem),
        (404, AccountProblem),
        (408, Ambiguous),
        (429, Refused),
        (500, Ambiguous),
        (502, Ambiguous),
    ],
)
def test_what_may_have_been_queued_is_ambiguous(status, raised):
    assert type(_submit_error(answer({}, status), PORTRAIT)) is raised
