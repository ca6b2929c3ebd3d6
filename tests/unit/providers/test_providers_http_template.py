"""Providers described in a file: what a mistake is told as, and what their answers and webhooks mean."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from importlib import resources

import pytest
from standardwebhooks.webhooks import Webhook

from safelight.providers.base import (
    AccountProblem,
    Ambiguous,
    Canceled,
    Failed,
    Refused,
    Rejected,
    Running,
    SubmitRequest,
    Succeeded,
    TaskRef,
    Unchanged,
    Waiting,
    WebhookForged,
    WebhookRequest,
)
from safelight.providers.factory import ProviderSettings, build_providers
from safelight.providers.http import Answer
from safelight.providers.http_template import (
    HttpTemplateProvider,
    Template,
    TemplateError,
    capabilities_of,
    load_templates,
    read_template,
)
from safelight.providers.http_template.blanks import filled_body, filled_path
from safelight.providers.http_template.meaning import going_on, state_of, submit_error, succeeded
from safelight.providers.registry import Registry
from safelight.providers.toml_lines import Lines

EXAMPLES = resources.files("safelight.providers.http_template").joinpath("examples")
LUMA = EXAMPLES.joinpath("luma.toml").read_text("utf-8")
NOW = datetime(2026, 1, 1, tzinfo=UTC)

HOUSE = """
name = "house"
api = "https://api.house.example/v2"

[key]
env = "HOUSE_KEY"
header = "X-Api-Key"
format = "{key}"

[submit]
path = "/{endpoint}/jobs"
input_at = "input"
add = { model = "{endpoint}", notify = "{webhook_url}", options = { count = "{n}", label = "safelight {attempt_id}" } }
task_id = "job.id"
keep = { status_url = "job.links.self" }

[status]
path = "{status_url}"
state = "job.state"
waiting = ["queued"]
running = ["working", 2]
succeeded = ["done", 3]
failed = ["broken"]
canceled = ["stopped"]
percent = "job.percent"
queue_position = "job.ahead"
message = "job.note"

[result]
base64 = "job.files[].data"
mime = "image/png"
cost = "job.price"

[failure]
code = "job.error.code"
message = "job.error.text || message"

[[error]]
words = ["nsfw", "policy.*"]
code = "content_policy"

[[error]]
words = ["gpu_*"]
code = "provider_failed"
transient = true

[[error]]
http = [503]
when = "code == 'draining'"
code = "provider_maintenance"
not_accepted = true

[[error]]
http = [400]
when = "code == 'no_money'"
code = "provider_balance"

[[error]]
when = "code == 'broke'"
code = "provider_balance"

[[error]]
when = "code == 'slow_down'"
code = "provider_busy"

[[error]]
when = "code == 'come_back'"
code = "provider_busy"
not_accepted = true

[webhook]
scheme = "hmac-sha256"
secret_env = "HOUSE_SECRET"
header = "X-House-Signature"
signed = "{id}:{timestamp}:{body}"
prefix = "sha256="
id_header = "X-House-Id"
timestamp_header = "X-House-Time"
task_id = "job.id"
"""
ENV = {"HOUSE_KEY": "k", "HOUSE_SECRET": "the house's secret"}


@pytest.fixture
def house() -> Template:
    return read_template("house.toml", HOUSE, ENV)


def answer(data: object, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, data, json.dumps(data))


# --- the file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('state = "state"', 'state = "sta te"', 23, "status.state: 'sta te' is no JMESPath"),
        ('path = "/generations/{task_id}"', 'path = "/g/{task}"', 22, "status.path: nothing fills {task}; here may"),
        ('path = "/generations/{task_id}"', 'path = "https://x.example"', 22, "status.path: a path begins with `/`"),
        ("concurrency = 10", "concurency = 10", 12, "limits.concurency: there is no such field."),
        ("concurrency = 10", 'concurrency = "ten"', 12, "limits.concurrency: expected a whole number, got text."),
        ("concurrency = 10", "concurrency = 0", 12, "limits.concurrency: it is 1 to 100000."),
        ('name = "luma"', 'name = "luma', 3, "illegal character"),
        ('name = "luma"', 'name = "Luma"', 3, "name: a name is a small letter"),
        ('env = "LUMAAI_API_KEY"', 'env = "luma-key-123"', 9, "key.env: it is the name of an environment variable"),
        ("https://api.lumalabs", "http://api.lumalabs", 5, "api: without https the key could be read"),
        ("https://api.lumalabs", "ftp://api.lumalabs", 5, "api: an address is https://"),
        ('running = ["dreaming"]', 'running = ["queued"]', 25, "status.running: 'queued' already stands in waiting."),
        ('succeeded = ["completed"]', "succeeded = []", 26, "status.succeeded: without a word for success"),
        ('code = "content_policy"', 'code = "policy"', 37, "error[0].code: 'policy' is none of"),
        ("contains(detail, 'mod", "cotains(detail, 'mod", 41, "error[1].when: "),
        ('mark = "request', 'mrk = "request', 48, "find.mrk: there is no such field."),
        ('scheme = "none"', 'scheme = "md5"', 52, "webhook.scheme: 'md5' is none of standard, hmac-sha256, none."),
        ('scheme = "none"', 'scheme = "standard"', 51, "webhook.secret_env: a signature needs the name"),
        ('callback_url = "{webhook_url}"', 'callback = "me"', 51, "webhook: nothing tells the provider our URL"),
        ('type = "bool"', 'type = "boolean"', 79, "model[1].fields[3].type: "),
        ('id = "luma/ray-2"\n', "", 69, "model[1].id: it is missing."),
        ('endpoint = "video"', 'endpoint = "../admin"', 74, "model[1].endpoint: an endpoint is letters"),
        ("amount = 200", "amount = -1", 55, "model[0]: a price cannot be negative."),
        ('urls = "assets.[video, image]"', "", 29, "result: it needs either `urls` or `base64`."),
    ],
)
def test_a_mistake_names_the_file_the_line_and_the_field(old, new, line, said):
    assert LUMA.count(old) >= 1
    with pytest.raises(TemplateError) as caught:
        read_template("luma.toml", LUMA.replace(old, new, 1), {})
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"luma.toml, line {line}")
    assert said in str(caught.value)


def test_several_mistakes_are_told_at_once_one_a_line():
    wrong = LUMA.replace('state = "state"', 'state = "a b"').replace('code = "content_policy"', 'code = "x"', 1)
    with pytest.raises(TemplateError) as caught:
        read_template("luma.toml", wrong, {})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "luma.toml, line 37, error[0].code",
        "luma.toml, line 23, status.state",
    ]


def test_lines_are_known_below_arrays_of_tables_inline_tables_and_long_strings():
    lines = Lines(
        'a = """\n[not.a]\nb = 1\n"""\n[[x]]\ny = [\n  1, # ]\n  2,\n]\n[x.z]\nq = { r = "]" }\n[[x]]\ny = 3\n'
    )
    assert lines.of(("a",)) == 1
    assert lines.of(("x", 0, "y")) == 6
    assert lines.of(("x", 0, "z", "q", "r")) == 11
    assert lines.of(("x", 1, "y")) == 13
    assert lines.of(("b",)) == 1


def test_the_shipped_examples_only_need_a_key():
    runway, luma = load_templates(["runway", "luma"], {"RUNWAYML_API_SECRET": "r"})
    assert runway.disabled is None
    assert "LUMAAI_API_KEY" in (luma.disabled or "")
    registry = Registry.load(None, [*runway.models, *luma.models])
    assert {"runway/gen4_turbo", "luma/photon-1"} <= {model.id for model in registry}
    built = build_providers(ProviderSettings(templates=[runway, luma]))
    assert built["runway"].disabled is None
    assert built["luma"].disabled == luma.disabled
    assert built["runway"].capabilities.cancel
    assert not built["runway"].capabilities.webhooks
    assert built["luma"].capabilities.lookup
    assert built["luma"].capabilities.webhooks


def test_a_folder_of_files_is_read_and_two_of_one_name_are_told_apart(tmp_path):
    (tmp_path / "house.toml").write_text(HOUSE)
    (tmp_path / "notes.txt").write_text("no provider")
    assert [each.name for each in load_templates([str(tmp_path)], ENV)] == ["house"]
    (tmp_path / "other.toml").write_text(HOUSE)
    with pytest.raises(TemplateError, match=r"other\.toml, line 1, name: .*house\.toml already describes 'house'"):
        load_templates([str(tmp_path)], ENV)
    with pytest.raises(TemplateError, match=r"absent: cannot be read .* luma, runway"):
        load_templates([str(tmp_path / "absent")], ENV)


def test_a_name_that_is_taken_by_a_built_in_provider_is_refused():
    with pytest.raises(ValueError, match=r"house\.toml: there already is a provider 'fal'"):
        build_providers(
            ProviderSettings(templates=[read_template("house.toml", HOUSE.replace('"house"', '"fal"', 1), ENV)])
        )


def test_the_key_and_the_secret_are_never_shown(house):
    assert "the house's secret" not in repr(house)
    assert "'k'" not in repr(house)


def test_a_secret_that_is_none_is_a_mistake_in_the_environment():
    standard = HOUSE.partition("[webhook]")[0] + '[webhook]\nscheme = "standard"\nsecret_env = "HOUSE_SECRET"\n'
    with pytest.raises(TemplateError, match=r"webhook\.secret_env: HOUSE_SECRET: a secret is `whsec_` and base64"):
        read_template("house.toml", standard, {**ENV, "HOUSE_SECRET": "whsec_???"})


# --- requests ---------------------------------------------------------------------------------------------------


def request(**given) -> SubmitRequest:
    return SubmitRequest("attempt-1", "big/model", "image", {"prompt": "a fox", **given}, 2, "https://us/hooks/1")


def test_what_the_file_adds_goes_before_what_the_caller_says(house):
    made = HttpTemplateProvider(house)
    told = {"endpoint": "m", "webhook_url": "https://us/h", "attempt_id": "a1", "n": 2, "kind": "image"}
    assert made._body(request(), told) == {
        "input": {"prompt": "a fox"},
        "model": "m",
        "notify": "https://us/h",
        "options": {"count": 2, "label": "safelight a1"},
    }
    flat = HttpTemplateProvider(read_template("luma.toml", LUMA, {"LUMAAI_API_KEY": "k"}))
    evil = request(callback_url="https://evil.example")
    assert flat._body(evil, {**told, "webhook_url": None}) == {"prompt": "a fox"}
    assert flat._body(evil, told)["callback_url"] == "https://us/h"


def test_nothing_that_fills_a_path_can_leave_its_place():
    assert filled_path("/tasks/{task_id}", {"task_id": "../a?b=c#d e"}) == "/tasks/..%2Fa%3Fb%3Dc%23d%20e"
    assert filled_path("/{endpoint}/x", {"endpoint": "a/b"}) == "/a/b/x"
    assert filled_body({"list": ["{a}", "{b}", 1]}, {"a": "x"}) == {"list": ["x", 1]}


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v2/jobs/1",
        "https://api.house.example.evil.example/jobs/1",
        "https://api.house.example@evil.example/jobs/1",
        "http://api.house.example/jobs/1",
        "https://api.house.example:444/jobs/1",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "",
    ],
)
async def test_an_address_of_another_host_is_never_asked(house, url):
    provider = HttpTemplateProvider(house)
    with pytest.raises(AccountProblem) as caught:
        await provider.inspect(TaskRef("1", "m", {"status_url": url}))
    assert caught.value.failure.code == "provider_misconfigured"
    assert provider._url("{status_url}", TaskRef("1", "m", {"status_url": "https://api.house.example/other/1"}))


async def test_an_endpoint_that_climbs_is_not_sent(house):
    with pytest.raises(Rejected):
        await HttpTemplateProvider(house).submit(
            SubmitRequest("a", "x/../admin", "image", {}, 1, None),
            lambda _: None,  # type: ignore[arg-type]
        )


# --- answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "raised", "code"),
    [
        (200, {}, Ambiguous, "submit_unknown"),
        # Some say 200 to everything, and what they mean in the body.
        (200, {"job": {"error": {"code": "nsfw"}}}, Rejected, "content_policy"),
        (200, {"code": "broke"}, AccountProblem, "provider_balance"),
        (200, {"code": "slow_down"}, Ambiguous, "submit_unknown"),
        (200, {"code": "come_back"}, Refused, "provider_busy"),
        (400, {"message": "bad"}, Rejected, "invalid_input"),
        (400, {"code": "no_money"}, AccountProblem, "provider_balance"),
        (401, {}, AccountProblem, "provider_key"),
        (402, {}, AccountProblem, "provider_balance"),
        (403, {}, AccountProblem, "provider_key"),
        (404, {}, Rejected, "provider_refused"),
        (408, {}, Ambiguous, "submit_unknown"),
        (422, {"job": {"error": {"code": "nsfw"}}}, Rejected, "content_policy"),
        (422, {"job": {"error": {"code": "policy.input.text"}}}, Rejected, "content_policy"),
        (429, {}, Refused, "provider_busy"),
        (500, {"job": {"error": {"code": "nsfw"}}}, Ambiguous, "submit_unknown"),
        (503, {}, Ambiguous, "submit_unknown"),
        (503, {"code": "draining"}, Refused, "provider_maintenance"),
    ],
)
def test_a_refusal_is_read_by_the_files_rules_and_what_may_have_been_taken_is_ambiguous(
    house, status, body, raised, code
):
    error = submit_error(house, answer(body, status))
    assert type(error) is raised
    assert error.failure.code == code


def test_a_refusal_says_how_long_to_wait(house):
    error = submit_error(house, answer({}, 429, retry_after="7"))
    assert isinstance(error, Refused)
    assert error.retry_after_s == 7


@pytest.mark.parametrize(
    ("job", "seen"),
    [
        ({"state": "queued", "ahead": 3}, Waiting(3)),
        ({"state": "queued", "ahead": "soon"}, Waiting(None)),
        ({"state": "working", "percent": 41.26, "note": "drawing"}, Running(41.3, "drawing")),
        ({"state": 2, "percent": 4000}, Running(None)),
        ({"state": "2"}, Unchanged("2")),
        ({"state": "stopped"}, Canceled()),
        ({"state": "dancing"}, Unchanged("dancing")),
        ({"state": True}, Unchanged("True")),
        ({"state": ["done"]}, Unchanged("['done']")),
    ],
)
def test_a_state_is_one_of_the_files_words_and_any_other_changes_nothing(house, job, seen):
    said = answer({"job": job})
    assert going_on(house, state_of(house, said.data), said) == seen


@pytest.mark.parametrize(
    ("error", "code", "transient"),
    [
        ({"code": "nsfw", "text": "no"}, "content_policy", False),
        ({"code": "gpu_lost"}, "provider_failed", True),
        ({"code": "odd", "text": "it broke"}, "provider_failed", False),
        ({}, "provider_failed", False),
        (None, "provider_failed", False),
    ],
)
def test_a_failed_task_is_bought_again_only_where_the_file_says_so(house, error, code, transient):
    said = answer({"job": {"state": "broken", "error": error}})
    seen = going_on(house, "failed", said)
    assert isinstance(seen, Failed)
    assert (seen.failure.code, seen.failure.transient) == (code, transient)


def test_results_come_as_base64_as_urls_or_not_at_all(house):
    files = [{"data": base64.b64encode(b"one").decode()}, {"data": "not base64!"}, {"data": None}]
    seen = succeeded(house, answer({"job": {"files": files, "price": 4}}), "image")
    assert isinstance(seen, Succeeded)
    assert [output.data for output in seen.outputs] == [b"one"]
    assert seen.cost == {"cost": 4}
    nothing = succeeded(house, answer({"job": {}}), "image")
    assert isinstance(nothing, Failed)
    assert nothing.failure.code == "no_output"

    luma = read_template("luma.toml", LUMA, {})
    both = succeeded(luma, answer({"assets": {"video": "https://x/a.mp4", "image": None}}), "video")
    assert isinstance(both, Succeeded)
    assert [output.url for output in both.outputs] == ["https://x/a.mp4"]


def test_what_a_file_says_of_limits_is_what_the_lifecycle_is_told():
    runway, luma = load_templates(["runway", "luma"], {})
    assert capabilities_of(runway).concurrency == 5
    assert capabilities_of(luma).result_lifetime_s == 3600


# --- webhooks ---------------------------------------------------------------------------------------------------


def signed(body: bytes, *, secret: str = "the house's secret", at: int | None = None, event: str = "e1"):
    when = int(NOW.timestamp()) if at is None else at
    digest = hmac.new(secret.encode(), f"{event}:{when}:".encode() + body, hashlib.sha256).hexdigest()
    headers = {"x-house-signature": f"sha256={digest}", "x-house-id": event, "x-house-time": str(when)}
    return WebhookRequest(headers, body, NOW)


async def test_a_signed_webhook_is_a_hint_about_its_task(house):
    note = await HttpTemplateProvider(house).verify_webhook(signed(b'{"job":{"id":"t1","state":"done"}}'))
    assert (note.event_key, note.task_id, note.observation) == ("e1", "t1", None)


@pytest.mark.parametrize(
    "forged",
    [
        signed(b"{}", secret="another"),
        signed(b"{}", at=int(NOW.timestamp()) - 301),
        signed(b"{}", at=int(NOW.timestamp()) + 301),
        WebhookRequest({}, b"{}", NOW),
        WebhookRequest({**signed(b"{}").headers}, b'{"more": 1}', NOW),
        WebhookRequest({**signed(b"{}").headers, "x-house-id": "e2"}, b"{}", NOW),
        WebhookRequest({**signed(b"{}").headers, "x-house-time": "²"}, b"{}", NOW),
    ],
)
async def test_a_webhook_that_does_not_prove_itself_is_forged(house, forged):
    with pytest.raises(WebhookForged):
        await HttpTemplateProvider(house).verify_webhook(forged)


async def test_the_standard_scheme_is_the_standard_librarys():
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef0123").decode()
    head = HOUSE.partition("[webhook]")[0]
    text = head + '[webhook]\nscheme = "standard"\nsecret_env = "HOUSE_SECRET"\ntask_id = "job.id"\n'
    provider = HttpTemplateProvider(read_template("house.toml", text, {**ENV, "HOUSE_SECRET": secret}))
    body = '{"job":{"id":7}}'
    signature = Webhook(secret).sign("msg_1", NOW, body)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": signature,
    }
    note = await provider.verify_webhook(WebhookRequest(headers, body.encode(), NOW))
    assert (note.event_key, note.task_id) == ("msg_1", "7")
    with pytest.raises(WebhookForged):
        await provider.verify_webhook(WebhookRequest(headers, b"{}", NOW))


async def test_an_unsigned_webhook_is_told_from_another_by_its_bytes():
    provider = HttpTemplateProvider(read_template("luma.toml", LUMA, {"LUMAAI_API_KEY": "k"}))
    notes = [
        await provider.verify_webhook(WebhookRequest({}, body, NOW))
        for body in (b'{"id":"t","state":"dreaming"}', b'{"id":"t","state":"completed"}', b"not json", b'{"id":true}')
    ]
    assert len({note.event_key for note in notes}) == 4
    assert [note.task_id for note in notes] == ["t", "t", None, None]
    assert all(note.observation is None for note in notes)
