"""A process for realtime alone: it is connected to, and does nothing else (O2)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from realtime_world import World, until

from safelight.server import run
from safelight.server.settings import Settings


async def test_a_realtime_process_follows_what_an_api_process_writes(build) -> None:
    api: World = await build(roles=("api",))
    realtime: World = await build(api, roles=("realtime",))
    async with realtime.socket(api.secret_key) as wire, realtime.http() as http:
        await wire.join(api.topic)
        shot = await api.add_shot()
        assert (await wire.event("change"))["payload"]["id"] == str(shot)
        followed = (await http.get(f"/v1/projects/{api.project}/changes")).json()["changes"]
        assert str(shot) in {change["id"] for change in followed}
        assert (await http.get("/v1/client-config")).json()["realtime_enabled"] is True
        assert [(await http.get(path)).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
        for path in ("/", f"/v1/projects/{api.project}/jobs", "/v1/admin/flags", "/media/x"):
            assert (await http.get(path)).status_code == 404
        assert (await http.post("/hooks/fal/x/y")).status_code == 404
        # What runs beside the sockets runs here.
        await api.write("update api_keys set revoked_at = now() where project_id = $1 returning 1", api.project)
        assert await wire.closed() == 1008


async def test_an_api_process_does_not_look_after_sockets_that_it_cannot_have(build) -> None:
    api: World = await build(roles=("api",))

    def names() -> set[str]:
        return {getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()}

    async def is_up() -> bool:
        return "Gate.run" in names()

    await until(is_up)
    assert "Realtime.run" not in names()
    assert api.system.realtime.flags.now.realtime_enabled


@pytest.mark.parametrize(("roles", "listens"), [("realtime", True), ("api", True), ("worker", False)])
def test_who_can_be_connected_to_listens(
    roles: str, listens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bool] = []
    monkeypatch.setattr(run, "serve_on", lambda settings, listener, on_ready: found.append(listener is not None))
    run.serve(Settings(roles=(roles,), port=0, data=tmp_path))  # type: ignore[arg-type]
    assert found == [listens]
