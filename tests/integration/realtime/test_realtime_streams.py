"""Event streams end when their reader's right does (S6)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import jwt
import pytest
from realtime_world import DEADLINE_S, World, until

from safelight.realtime import door


@contextlib.asynccontextmanager
async def followed(world: World, key: str, path: str) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[str]]]:
    """An open stream, past its first line."""
    async with world.http(key) as http, http.stream("GET", path) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        await anext(lines)
        yield answer, lines


async def read_to_the_end(lines: AsyncIterator[str]) -> list[str]:
    async with asyncio.timeout(DEADLINE_S):
        return [line async for line in lines]


async def test_a_removed_members_stream_ends_and_no_other_begins(world: World) -> None:
    removed, other = await world.member("viewer"), await world.member("viewer")
    path = f"/v1/projects/{world.project}/changes/stream"
    async with followed(world, removed, path) as (_, ended), followed(world, other, path) as (_, lasts):
        await world.write(
            "delete from members where project_id = $1 and user_id = $2 returning 1",
            world.project, jwt.decode(removed, options={"verify_signature": False})["sub"],
        )  # fmt: skip
        await read_to_the_end(ended)
        shot = await world.add_shot()
        async with asyncio.timeout(DEADLINE_S):
            while str(shot) not in await anext(lasts):
                pass

        async def is_out() -> bool:
            async with world.http(removed) as http:
                return (await http.get(f"/v1/projects/{world.project}/changes")).status_code == 404

        await until(is_out, "the poll to be refused")


async def test_a_revoked_key_ends_its_streams(world: World) -> None:
    job = await world.add_job()
    async with (
        followed(world, world.secret_key, f"/v1/projects/{world.project}/changes/stream") as (_, changes),
        followed(world, world.secret_key, f"/v1/jobs/{job}/events") as (_, events),
    ):
        await world.write("update api_keys set revoked_at = now() where project_id = $1 returning 1", world.project)
        await read_to_the_end(changes)
        assert "event: end" not in await read_to_the_end(events)  # the job goes on
    assert world.system.context.streams._holds == set()


async def test_a_token_that_expires_ends_its_stream(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LEEWAY_S", 0)
    name = "ann"
    await world.write("insert into members values ($1, $2, 'viewer') returning 1", world.project, name)
    short = world.token(name, 1)
    path = f"/v1/projects/{world.project}/changes/stream"
    async with followed(world, short, path) as (_, lines), followed(world, world.token(name), path) as (_, lasts):
        await read_to_the_end(lines)
        shot = await world.add_shot()
        async with asyncio.timeout(DEADLINE_S):
            while str(shot) not in await anext(lasts):
                pass
