"""Whatever JSON a described provider or a ComfyUI answers with: it means something we know, and nothing ever breaks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safelight.providers.base import (
    AccountProblem,
    Ambiguous,
    Canceled,
    Failed,
    Observation,
    Refused,
    Rejected,
    Running,
    Succeeded,
    Unchanged,
    Waiting,
    WebhookRequest,
)
from safelight.providers.comfyui import read_workflow
from safelight.providers.comfyui.history import queued, read_history, refusal, remembered
from safelight.providers.comfyui.progress import Track
from safelight.providers.http import Answer
from safelight.providers.http_template import HttpTemplateProvider, load_templates
from safelight.providers.http_template.meaning import going_on, state_of, submit_error, succeeded
from safelight.providers.loose_json import as_object

PORTRAIT = read_workflow(
    Path(__file__).parents[2] / "integration" / "providers" / "comfyui_workflows" / "portrait.toml"
)
TEMPLATES = load_templates(["luma", "runway"], {"LUMAAI_API_KEY": "k", "RUNWAYML_API_SECRET": "k"})

NAMES_SAID = """
id state status output assets video image failure_reason failureCode failure error progress cost
detail generations request callback_url outputs images filename type messages status_str prompt
node_errors errors message extra_info nodes node value max 3 9 queue_running queue_pending subfolder
class_type
"""
NAMES = st.sampled_from(NAMES_SAID.split())
WORDS_SAID = """
SUCCEEDED FAILED RUNNING PENDING completed dreaming failed success error output temp execution_error
execution_interrupted https://x.example/a.png data:image/png;base64,AA== SAFETY.X
"""
WORDS = st.sampled_from(WORDS_SAID.split())
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
ANY = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=25
)
STEPS = st.fixed_dictionaries(
    {"node": st.sampled_from(["3", "8", "99"]), "value": st.integers(-1, 25), "max": st.sampled_from([1, 20, 24])}
)
EVENTS = STEPS | ANY
KINDS = st.sampled_from(["progress", "progress_state", "executing", "execution_cached"])
CALM = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
KNOWN = (Waiting, Running, Succeeded, Failed, Canceled, Unchanged)


def answer(data: object, status: int) -> Answer:
    return Answer(status, {}, data, json.dumps(data)[:4000])


def is_sound(seen: Observation) -> bool:
    """What it says can be kept and shown."""
    match seen:
        case Running(percent=percent):
            return percent is None or 0 <= percent <= 100
        case Succeeded(outputs=outputs):
            return bool(outputs) and all((output.url is None) != (output.data is None) for output in outputs)
        case Failed(failure=failure):
            return bool(failure.code and failure.message)
        case _:
            return isinstance(seen, KNOWN)


@CALM
@given(ANY, st.sampled_from([200, 201, 400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 503]))
def test_any_answer_of_a_described_provider_means_something(data, status):
    said = answer(data, status)
    for template in TEMPLATES:
        error = submit_error(template, said)
        assert isinstance(error, Ambiguous | AccountProblem | Refused | Rejected)
        if status >= 500 or status < 300:
            assert isinstance(error, Ambiguous)
        assert is_sound(going_on(template, state_of(template, data), said))
        for kind in ("image", "video"):
            assert is_sound(succeeded(template, said, kind))


@CALM
@given(st.binary(max_size=200) | ANY.map(lambda data: json.dumps(data).encode()))
async def test_any_body_of_an_unsigned_webhook_is_a_hint_at_most(body):
    provider = HttpTemplateProvider(TEMPLATES[0])
    note = await provider.verify_webhook(WebhookRequest({}, body, datetime.now(UTC)))
    assert note.observation is None
    assert note.event_key
    await provider.close()


@CALM
@given(ANY)
def test_any_history_queue_and_refusal_of_comfyui_means_something(data):
    about = as_object(data)
    for workflow in (PORTRAIT, None):
        assert is_sound(read_history(about, workflow, "image", "http://comfy", None))
    for name in ("queue_running", "queue_pending"):
        assert all(isinstance(entry.prompt_id, str) for entry in queued(about, name))
    assert all(isinstance(entry.prompt_id, str) for entry in remembered(about))
    assert refusal(about, PORTRAIT, 400, None).message


@CALM
@given(
    st.lists(
        st.tuples(st.sampled_from(["progress", "progress_state", "executing", "execution_cached"]), EVENTS), max_size=12
    )
)
def test_any_event_keeps_progress_between_0_and_100_and_never_turns_it_back(events):
    track, highest = Track(PORTRAIT.graph), 0.0
    for kind, data in events:
        track.take(kind, as_object(data))
        percent = track.running().percent
        if percent is not None:
            assert highest <= percent <= 100
            highest = percent
