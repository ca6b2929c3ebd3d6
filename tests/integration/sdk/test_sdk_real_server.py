"""The Python client against a real Safelight: both twins, whole way from submit to file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from safelight.sdk import (
    AsyncSafelight,
    Changed,
    Forbidden,
    IdempotencyMismatch,
    InsufficientCredits,
    InvalidInput,
    JobCanceled,
    JobFailed,
    MustRefetch,
    NotFound,
    Safelight,
    Unauthorized,
    UnknownModel,
    WaitTimeout,
)
from safelight.sdk.calls import new_id

PATIENCE_S = 120


@pytest.fixture
def client(demo) -> Iterator[Safelight]:
    with Safelight(demo.url, demo.secret_key, demo.project_id) as connected:
        yield connected


def fox(client: Safelight, **given):
    return client.submit("local/aurora", {"prompt": "a red fox"}, **given)


def test_five_lines_make_a_picture(demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFELIGHT_DATA", str(demo.folder))
    monkeypatch.chdir(tmp_path)

    client = Safelight()
    job = client.submit("local/aurora", {"prompt": "a red fox"})
    job.wait(PATIENCE_S)
    [path] = job.download("out")

    with Image.open(path) as picture:
        assert picture.width > 0
    assert job.status == "completed"
    assert job.info.credits.charged == job.info.credits.quoted
    client.close()


async def test_the_async_twin_does_the_same(demo, tmp_path: Path) -> None:
    async with AsyncSafelight(demo.url, demo.secret_key, demo.project_id) as client:
        job = await client.submit("local/aurora", {"prompt": "two foxes"}, n=2)
        events = [event async for event in job.events(PATIENCE_S)]
        results = await job.results()
        files = await job.download(tmp_path)

    assert isinstance(events[-1], Changed)
    assert events[-1].job.status == "completed"
    assert [each.output_index for each in results] == [0, 1]
    assert [each.id for each in results] == job.info.generations
    assert [path.stat().st_size for path in files] == [each.bytes for each in results]


def test_progress_is_told_until_the_end(client: Safelight) -> None:
    seen = []
    fox(client).wait(PATIENCE_S, on_progress=seen.append)
    stages = [job.stage for job in seen]
    assert stages[-1] == "completed"
    assert stages.count("completed") == 1


def test_the_same_id_again_is_the_same_job_and_with_another_body_a_conflict(client: Safelight) -> None:
    identity = new_id()
    first, second = fox(client, id=identity), fox(client, id=identity)
    assert first.id == second.id == identity
    with pytest.raises(IdempotencyMismatch):
        client.submit("local/aurora", {"prompt": "a blue fox"}, id=identity)
    first.wait(PATIENCE_S)


def test_a_wait_that_ends_early_leaves_the_job_alone(client: Safelight) -> None:
    job = client.submit("local/aurora", {"prompt": "slow"}, n=4)
    with pytest.raises(WaitTimeout) as caught:
        job.wait(0.01)
    assert caught.value.job.id == job.id
    assert client.jobs.get(job.id).wait(PATIENCE_S).status == "completed"


def test_jobs_are_listed_and_counted(client: Safelight) -> None:
    tag = uuid4().hex
    jobs = [fox(client, tags=[tag]) for _ in range(3)]
    for job in jobs:
        job.wait(PATIENCE_S)

    page = client.jobs.list(tag=tag, status=["completed", "failed"], limit=2)
    assert [job.id for job in page.items] == [jobs[2].id, jobs[1].id]
    assert page.seq > 0
    rest = client.jobs.list(tag=tag, cursor=page.next_cursor)
    assert [job.id for job in rest.items] == [jobs[0].id]
    assert rest.next_cursor is None
    assert client.jobs.counts()["completed"] >= 3


def test_a_trace_says_each_step_and_where_it_stands(client: Safelight) -> None:
    trace = fox(client).wait(PATIENCE_S).trace()
    assert len(trace.steps) >= 3
    assert [step.at for step in trace.steps] == sorted(step.at for step in trace.steps)
    assert trace.said


def test_a_result_can_be_starred_deleted_and_brought_back(client: Safelight) -> None:
    [result] = fox(client).wait(PATIENCE_S).results()
    assert client.generations.star(result.id).starred
    assert result.id in {each.id for each in client.generations.list(starred=True).items}
    client.generations.delete(result.id)
    assert result.id not in {each.id for each in client.generations.list().items}
    assert client.generations.restore(result.id).deleted_at is None


def test_every_change_is_followed_from_where_we_began(client: Safelight) -> None:
    start = client.head()
    job = fox(client)
    own = []
    for change in client.changes(after=start):
        if change.table == "jobs" and change.id == str(job.id):
            own.append(change)
            if change.row and change.row["status"] == "completed":
                break
    assert own[0].op == "insert"
    assert own[0].origin == client.session.client_id
    seqs = [change.seq for change in own]
    assert seqs == sorted(set(seqs))

    again = [change for change in client.changes(after=start, follow=False) if change.id == str(job.id)]
    assert [change.seq for change in again if change.table == "jobs"] == seqs


async def test_a_change_made_while_we_listen_arrives(demo) -> None:
    async with AsyncSafelight(demo.url, demo.secret_key, demo.project_id) as client:
        start = await client.head()
        listening = client.changes(after=start)
        job = await client.submit("local/aurora", {"prompt": "heard"})
        async for change in listening:
            if change.id == str(job.id):
                break
        await listening.aclose()
        await job.wait(PATIENCE_S)


def test_a_cursor_of_another_life_is_told_so(client: Safelight) -> None:
    with pytest.raises(MustRefetch) as caught:
        next(client.changes(after=f"{uuid4()}:1"))
    assert caught.value.head >= 1
    list(islice(client.changes(after=f"{caught.value.epoch}:{caught.value.head}", follow=False), 1))


def test_credits_are_granted_once_per_key(client: Safelight) -> None:
    before = client.credits.get()
    key = uuid4().hex
    client.credits.grant(100, key=key, note="a test")
    after = client.credits.grant(100, key=key, note="a test")
    assert after.balance - before.balance <= 100  # jobs of other tests may have been charged meanwhile
    assert after.available <= before.available + 100


def test_too_few_credits_say_how_many_are_missing(client: Safelight) -> None:
    poor = client.create_project("poor")
    with pytest.raises(InsufficientCredits) as caught:
        fox(client, project=poor.id)
    assert caught.value.required > caught.value.available == 0
    assert client.jobs.list(project=poor.id).items == []


def test_a_quote_is_what_the_job_costs(client: Safelight) -> None:
    quoted = client.quote("local/aurora", {"prompt": "a red fox"}, n=2).credits
    assert fox(client, n=2).wait(PATIENCE_S).info.credits.charged == quoted > 0


@pytest.mark.parametrize(
    ("model", "given", "kind"),
    [("no/such-model", {"prompt": "x"}, UnknownModel), ("local/aurora", {"prompt": 7}, InvalidInput)],
)
def test_what_cannot_be_made_is_refused_at_once(client: Safelight, model: str, given: dict, kind: type) -> None:
    with pytest.raises(kind):
        client.submit(model, given)


def test_a_failed_job_says_why_and_costs_nothing(client: Safelight) -> None:
    job = client.submit("fal-ai/flux/schnell", {"prompt": "x", "_emulator": {"fail": "content_policy"}})
    with pytest.raises(JobFailed) as caught:
        job.wait(PATIENCE_S)
    assert caught.value.job_id == job.id
    assert caught.value.detail
    assert job.info.credits.charged is None


def test_a_canceled_job_raises_to_whoever_waits(client: Safelight) -> None:
    job = client.submit("fal-ai/flux/schnell", {"prompt": "x", "_emulator": {"latency_s": 60}})
    job.cancel()
    with pytest.raises(JobCanceled):
        job.wait(PATIENCE_S)


def test_keys_of_a_project_open_it_until_they_are_revoked(client: Safelight, demo) -> None:
    made = client.keys.create("secret", name="ci")
    assert made.key
    with Safelight(demo.url, made.key, demo.project_id) as other:
        assert other.jobs.list(limit=1).seq > 0
    assert made.id in {key.id for key in client.keys.list()}
    client.keys.revoke(made.id)
    assert next(key for key in client.keys.list() if key.id == made.id).revoked_at


def test_a_publishable_key_may_not_read_jobs(client: Safelight, demo) -> None:
    made = client.keys.create("publishable")
    with Safelight(demo.url, made.key, demo.project_id) as other, pytest.raises(Forbidden):
        other.jobs.list()


def test_a_wrong_key_and_a_foreign_id_are_told_apart(client: Safelight, demo) -> None:
    with Safelight(demo.url, "sk_nonsense", demo.project_id) as stranger, pytest.raises(Unauthorized):
        stranger.jobs.list()
    with pytest.raises(NotFound):
        client.jobs.get(uuid4())
    with pytest.raises(InvalidInput):
        client.jobs.get("not-an-id")


def test_models_and_projects_are_listed(client: Safelight, demo) -> None:
    assert "local/aurora" in {model.id for model in client.models()}
    assert demo.project_id in {str(project.id) for project in client.projects()}


def test_a_start_image_is_sent_once_and_may_start_a_job(client: Safelight, tmp_path: Path) -> None:
    path = tmp_path / "start.png"
    Image.effect_noise((700, 700), 80).convert("RGB").save(path)
    first = client.upload(path)
    assert first.state == "ready"
    assert (first.width, first.height) == (700, 700)
    assert client.upload(path).id == first.id
