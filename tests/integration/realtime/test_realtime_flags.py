"""The flags: from the table and the environment, by the command line, told to every client (S8)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from realtime_world import World, until

from safelight.access import keys
from safelight.db.pool import Database
from safelight.realtime import flags as board
from safelight.realtime.flags import BadFlag, Flags, from_environment, parsed, read_flags, store_flag


async def test_the_environment_goes_before_the_table_and_the_table_before_the_default(db: Database) -> None:
    async def found(environ: dict[str, str]) -> Flags:
        async with db.connection() as conn:
            return await read_flags(conn, from_environment(environ))

    assert await found({}) == Flags(True, False, None)
    await store_flag(db, "REALTIME_ENABLED", False, "a test")
    await store_flag(db, "DEADMODE_FORCE_POLLING_MS", 4000, "a test")
    assert await found({}) == Flags(False, False, 4000)
    assert await found({"SAFELIGHT_REALTIME_ENABLED": "on", "LEGACY_LISTENERS_ENABLED": "1"}) == Flags(True, True, 4000)
    await store_flag(db, "REALTIME_ENABLED", None, "a test")
    assert await found({}) == Flags(True, False, 4000)
    async with db.connection() as conn:
        assert await conn.fetchval("select count(*) from audit_log where action = 'flags.set'") == 3


async def test_a_value_in_the_table_that_makes_no_sense_is_left_out(db: Database) -> None:
    async with db.connection() as conn:
        await conn.execute("insert into flags (name, value) values ('REALTIME_ENABLED', '\"perhaps\"'), ('OTHER', '1')")
        assert await read_flags(conn, {}) == Flags()


@pytest.mark.parametrize(
    ("name", "text"),
    [("REALTIME_ENABLED", "perhaps"), ("DEADMODE_FORCE_POLLING_MS", "true"), ("DEADMODE_FORCE_POLLING_MS", "1"),
     ("DEADMODE_FORCE_POLLING_MS", "9999999"), ("SOMETHING", "true"), ("REALTIME_ENABLED", "5000")],
)  # fmt: skip
def test_a_value_that_a_flag_cannot_have_is_refused(name: str, text: str) -> None:
    with pytest.raises(BadFlag):
        parsed(name, text)


async def run_cli(dsn: str, *args: str) -> tuple[int, str]:
    environ = {**os.environ, "SAFELIGHT_DATABASE_URL": dsn}
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("safelight")), "flags", *args, env=environ,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_the_command_sets_what_open_clients_are_told(world: World) -> None:
    dsn = world.system.db.dsn
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic)
        code, said = await run_cli(dsn, "set", "deadmode_force_polling_ms", "7000")
        assert (code, said.strip()) == (0, "DEADMODE_FORCE_POLLING_MS is 7000")
        told = (await wire.event("config"))["payload"]
        assert told == {
            "realtime_enabled": True, "legacy_listeners_enabled": False, "deadmode_force_polling_ms": 7000,
        }  # fmt: skip
        code, said = await run_cli(dsn, "list", "--json")
        listed: dict[str, Any] = json.loads(said)
        assert listed["DEADMODE_FORCE_POLLING_MS"] == {"value": 7000, "stored": 7000}
        assert (await run_cli(dsn, "reset", "DEADMODE_FORCE_POLLING_MS"))[0] == 0
        assert (await wire.event("config"))["payload"]["deadmode_force_polling_ms"] is None
    assert (await run_cli(dsn, "set", "REALTIME_ENABLED", "perhaps"))[0] == 2


async def test_what_sockets_do_is_counted(world: World) -> None:
    async with world.socket(world.secret_key) as wire, world.http() as http:
        await wire.join(world.topic)
        await wire.refused("realtime:nobody", "forged")

        async def text() -> str:
            return (await http.get("/metrics")).text

        async def counted() -> bool:
            found = await text()
            return (
                "safelight_realtime_channels 1.0" in found
                and 'safelight_feed_followers{transport="socket"} 1.0' in found
                and 'safelight_realtime_refused_total{what="joins"} 1.0' in found
            )

        await until(counted, f"the counts; {[line for line in (await text()).splitlines() if 'realtime' in line]}")


async def test_a_flag_is_in_force_on_every_server_as_soon_as_it_is_set(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "LOOK_S", 3600.0)  # nobody looks by himself in the time of this test
    one: World = await build()
    two: World = await build(one)
    await until(lambda: are_listening(one, two), "the bus")
    admin = await an_admin_key(one)
    async with two.socket(two.secret_key) as wire, one.http(admin) as http:
        await wire.join(two.topic)
        code, _ = await run_cli(one.system.db.dsn, "set", "DEADMODE_FORCE_POLLING_MS", "7000")
        assert code == 0
        assert (await wire.event("config"))["payload"]["deadmode_force_polling_ms"] == 7000
        answer = await http.put("/v1/admin/flags", json={"DEADMODE_FORCE_POLLING_MS": 8000})
        assert answer.status_code == 200, answer.text
        assert (await wire.event("config"))["payload"]["deadmode_force_polling_ms"] == 8000
        assert (await http.get("/v1/client-config")).json()["deadmode_force_polling_ms"] == 8000


async def are_listening(*worlds: World) -> bool:
    return all(world.system.realtime._relay._bus.is_connected for world in worlds)


async def an_admin_key(world: World) -> str:
    made = await world.system.db.run(lambda tx: keys.create_key(tx, project_id=None, kind="secret", name=""))
    return made.plaintext
