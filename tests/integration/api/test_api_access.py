"""Who may do what over HTTP (S6, O4): keys, tokens, sessions, roles; and what other sites' pages may not."""

from __future__ import annotations

import base64
import json
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from api_world import World, assert_problem, ok, small

from safelight.access import keys, studio_link

READS = ("jobs", "jobs/counts", "generations", "shots", "nodes", "edges", "templates", "changes", "credits",
         "credits/entries", "members")  # fmt: skip


def asked(world: World) -> list[tuple[str, str, dict | None, str]]:
    """Requests by what they need: to read, to write, to manage the project, or to manage the installation."""
    p, nobody = world.p, uuid4()
    template = {"slug": "t", "name": "T", "model": "local/aurora", "input": {"prompt": "a"}}
    return [
        *(("GET", f"{p}/{path}", None, "read") for path in READS),
        ("GET", p, None, "read"),
        ("POST", f"{p}/generations/by-ids", {"ids": [str(nobody)]}, "read"),
        ("POST", f"{p}/jobs", small(), "write"),
        ("POST", f"{p}/quote", small(), "read or write"),
        ("POST", f"{p}/shots", {"name": "S"}, "write"),
        ("POST", f"{p}/nodes", {"type": "prompt"}, "write"),
        ("POST", f"{p}/templates", template, "write"),
        ("POST", f"{p}/generations/batch", {"op": "star", "ids": [str(nobody)]}, "write"),
        ("POST", f"{p}/uploads", {"bytes": 10}, "write"),
        ("GET", f"{p}/keys", None, "manage"),
        ("POST", f"{p}/keys", {"kind": "publishable"}, "manage"),
        ("PUT", f"{p}/members/somebody", {"role": "viewer"}, "manage"),
        ("POST", f"{p}/credits/grants", {"amount": 1, "key": str(nobody)}, "grant"),
        ("GET", "/v1/admin/flags", None, "admin"),
        ("PUT", "/v1/admin/flags", {"REALTIME_ENABLED": None}, "admin"),
    ]


MAY = {
    "viewer": {"read", "read or write"},
    "editor": {"read", "write", "read or write"},
    "owner": {"read", "write", "read or write", "manage"},
    "project's key": {"read", "write", "read or write", "manage", "grant"},
    "installation's key": {"read", "write", "read or write", "manage", "grant", "admin"},
}


@pytest.mark.parametrize("who", MAY)
async def test_everybody_may_what_their_role_says_and_nothing_else(world: World, who: str) -> None:
    client = {"project's key": world.api, "installation's key": world.admin}.get(who) or await world.user(who)
    for method, path, body, need in asked(world):
        answer = await client.request(method, path, json=body)
        if need in MAY[who]:
            if who == "viewer" and need == "read or write":
                continue
            assert answer.status_code < 300, (who, method, path, answer.text)
        else:
            assert_problem(answer, 403, "forbidden")


async def test_a_project_that_is_not_yours_is_not_there(world: World) -> None:
    other = await world.new_project()
    foreign_key = world.client(await world.new_key(other))
    stranger = await world.user(None)
    async with world.unchanged():
        for client in (stranger, foreign_key):
            for method, path, body, need in asked(world):
                if need != "admin":
                    assert_problem(await client.request(method, path, json=body), 404, "not_found")
    assert ok(await stranger.get("/v1/projects"))["items"] == []
    assert [item["id"] for item in ok(await foreign_key.get("/v1/projects"))["items"]] == [other]
    assert ok(await foreign_key.get(f"/v1/projects/{other}"))["role"] == "owner"


async def test_a_publishable_key_reads_the_clients_settings_and_nothing_else(world: World) -> None:
    key = await world.new_key(kind="publishable")
    assert key.startswith("pk_")
    for client in (world.client(key), world.client(None, apikey=key)):
        config = ok(await client.get("/v1/client-config"))
        assert set(config) == {
            "realtime_enabled", "legacy_listeners_enabled", "deadmode_force_polling_ms", "polling", "realtime_url",
            "heartbeat_ms", "invalidation", "version", "now",
        }  # fmt: skip
        assert config["invalidation"] == {"flush_ms": 500, "delete_flush_ms": 2000}
        assert config["realtime_url"] == world.url.replace("http", "ws") + "/realtime/v1"
        for method, path, body, need in asked(world):
            answer = await client.request(method, path, json=body)
            assert_problem(answer, 403, "forbidden", "publishable" if need != "grant" else "")


async def test_the_kill_switch_reaches_every_client(world: World) -> None:
    flags = {"REALTIME_ENABLED": False, "DEADMODE_FORCE_POLLING_MS": 2000}
    put = ok(await world.admin.put("/v1/admin/flags", json=flags))
    assert put == flags | {
        "LEGACY_LISTENERS_ENABLED": None,
        "in_force": flags | {"LEGACY_LISTENERS_ENABLED": False},
        "environment": [],
    }
    config = ok(await world.api.get("/v1/client-config"))
    assert (config["realtime_enabled"], config["deadmode_force_polling_ms"]) == (False, 2000)
    ok(await world.admin.put("/v1/admin/flags", json=dict.fromkeys(flags)))
    config = ok(await world.api.get("/v1/client-config"))
    assert (config["realtime_enabled"], config["deadmode_force_polling_ms"]) == (True, None)
    for wrong in ({"DEADMODE_FORCE_POLLING_MS": 1}, {"REALTIME_ENABLED": "maybe"}, {"OTHER": True}):
        assert_problem(await world.admin.put("/v1/admin/flags", json=wrong), 422, "invalid_input")


def unsigned(claims: dict) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in
             ({"alg": "none", "typ": "JWT"}, claims)]  # fmt: skip
    return ".".join([*parts, ""])


async def test_credentials_that_do_not_hold_are_told_why(world: World) -> None:
    claims = {"sub": "somebody", "exp": 4_000_000_000}
    revoked = await world.new_key()
    [key] = [k for k in ok(await world.admin.get(f"{world.p}/keys"))["items"] if revoked.startswith(k["prefix"])]
    ok(await world.admin.delete(f"{world.p}/keys/{key['id']}"), 204)
    good = world.token("somebody")
    expired = jwt.encode({"sub": "somebody", "exp": 1_000_000_000}, world.system.context.gate.tokens._secret or "")
    cases = {
        "": "Authorization",
        "Bearer": "Bearer",
        "Basic dXNlcjpwYXNz": "Bearer",
        "Bearer nonsense": "neither an API key nor a token",
        f"Bearer {keys.generate('secret')}": "unknown",
        f"Bearer {revoked}": "revoked",
        f"Bearer {revoked[:-1]}": "mistyped or cut off",
        f"Bearer {unsigned(claims)}": "HS256",
        f"Bearer {jwt.encode(claims, 'x' * 40)}": "not its issuer's",
        f"Bearer {expired}": "expired",
        f"Bearer {good[:-3]}": "",
        f"Bearer {good.rpartition('.')[0]}.": "",
    }
    async with world.unchanged():
        for header, said in cases.items():
            async with httpx.AsyncClient(base_url=world.url, trust_env=False) as client:
                headers = {"authorization": header} if header else {}
                for method, path, body, _ in asked(world):
                    answer = await client.request(method, path, json=body, headers=headers)
                    assert_problem(answer, 401, "unauthorized", said)
                assert_problem(await client.get("/v1/client-config", headers=headers), 401, "unauthorized", said)


async def test_a_key_is_shown_once(world: World) -> None:
    made = ok(await world.api.post(f"{world.p}/keys", json={"name": "CI", "kind": "secret"}), 201)
    assert made["key"].startswith("sk_")
    listed = await world.api.get(f"{world.p}/keys")
    assert made["key"] not in listed.text
    assert "CI" in [item["name"] for item in ok(listed)["items"]]
    assert ok(await world.client(made["key"]).get(world.p))["id"] == world.project


async def test_members_come_go_and_one_owner_stays(world: World) -> None:
    owner = await world.user("owner", name="ada")
    ok(await owner.put(f"{world.p}/members/bob", json={"role": "editor"}), 204)
    bob = world.client(world.token("bob"))
    ok(await bob.post(f"{world.p}/shots", json={"name": "S"}), 201)
    ok(await owner.put(f"{world.p}/members/bob", json={"role": "viewer"}), 204)
    assert_problem(await bob.post(f"{world.p}/shots", json={"name": "S"}), 403, "forbidden", "viewer")
    members = {item["user_id"]: item["role"] for item in ok(await bob.get(f"{world.p}/members"))["items"]}
    assert members == {"ada": "owner", "bob": "viewer"}
    ok(await owner.delete(f"{world.p}/members/bob"), 204)
    assert_problem(await bob.get(world.p), 404, "not_found")
    assert_problem(await owner.delete(f"{world.p}/members/ada"), 409, "conflict", "last owner")


async def test_a_person_makes_a_project_and_owns_it(world: World) -> None:
    ada = world.client(world.token("ada"))
    made = ok(await ada.post("/v1/projects", json={"name": "Mine"}), 201)
    assert made["role"] == "owner"
    assert [item["id"] for item in ok(await ada.get("/v1/projects"))["items"]] == [made["id"]]
    session = ok(await ada.get("/v1/session"))
    assert session == {
        "project_id": made["id"],
        "projects": [{"id": made["id"], "name": "Mine"}],
        "user": {"id": "ada", "name": "ada", "role": "owner", "may_set_flags": False},
    }
    assert_problem(await world.api.post("/v1/projects", json={"name": "x"}), 403, "forbidden")


async def a_page(world: World, user: str = "ada", role: str = "editor") -> httpx.AsyncClient:
    """The studio, opened by its one-time link: a browser with a cookie."""
    await world.user(role, name=user)
    now, project = world.system.context.now(), UUID(world.project)
    link = await world.system.db.run(
        lambda tx: studio_link.create_link(tx, user_id=user, project_id=project, ttl_s=60, now=now, actor="test")
    )
    page = world.client()
    answer = await page.get("/", params={"key": link})
    assert (answer.status_code, answer.headers["location"]) == (303, "/"), "the link leaves the address bar"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    again = await world.client().get("/", params={"key": link})
    assert again.status_code == 303
    assert "set-cookie" not in again.headers, "the link worked once"
    return page


async def test_the_studios_link_opens_one_project_by_cookie(world: World) -> None:
    page = await a_page(world)
    session = ok(await page.get("/v1/session"))
    assert (session["project_id"], session["user"]["role"]) == (world.project, "editor")
    assert len(ok(await page.get(f"{world.p}/jobs"))["items"]) == 0
    other = await world.new_project()
    ok(await world.admin.put(f"/v1/projects/{other}/members/ada", json={"role": "owner"}), 204)
    assert_problem(await page.get(f"/v1/projects/{other}"), 404, "not_found")
    ok(await world.admin.delete(f"{world.p}/members/ada"), 204)
    assert_problem(await page.get(f"{world.p}/jobs"), 404, "not_found")


async def test_the_flags_are_in_the_studio_of_the_people_the_operator_named(build) -> None:
    world: World = await build(admins=("root",))
    named, other = await a_page(world, "root", "viewer"), await a_page(world, "ada", "owner")
    own = {"origin": world.url}
    for page, may_set in ((named, True), (other, False)):
        assert ok(await page.get("/v1/session"))["user"]["may_set_flags"] is may_set
    assert_problem(await other.get("/v1/admin/flags"), 403, "forbidden")
    assert_problem(await other.put("/v1/admin/flags", json={"REALTIME_ENABLED": False}, headers=own), 403, "forbidden")
    assert_problem(await named.put("/v1/admin/flags", json={"REALTIME_ENABLED": False}), 403, "forbidden", "own page")
    put = ok(await named.put("/v1/admin/flags", json={"REALTIME_ENABLED": False}, headers=own))
    assert put["in_force"]["REALTIME_ENABLED"] is False
    assert ok(await other.get("/v1/client-config"))["realtime_enabled"] is False
    token = world.client(world.token("root"))
    assert_problem(await token.get("/v1/admin/flags"), 403, "forbidden")  # a name in somebody's token is not enough
    assert_problem(await named.get(f"{world.p}/keys"), 403, "forbidden")  # in the project they are what they were
    ok(await world.admin.delete(f"{world.p}/members/root"), 204)
    assert_problem(await named.get("/v1/admin/flags"), 403, "forbidden")


async def test_a_cookie_writes_only_from_our_own_page(world: World) -> None:
    page = await a_page(world)
    body, path = {"name": "S"}, f"{world.p}/shots"
    for headers in (
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:1"},
        {"origin": world.url + ".evil.example"},
    ):
        async with world.unchanged():
            assert_problem(await page.post(path, json=body, headers=headers), 403, "forbidden", "own page")
    ok(await page.post(path, json=body, headers={"origin": world.url}), 201)
    ok(await page.post(path, json=body, headers={"sec-fetch-site": "same-origin"}), 201)


async def test_a_cookie_that_was_changed_signs_nobody_in(world: World) -> None:
    page = await a_page(world)
    [cookie] = page.cookies.jar
    for value in (cookie.value[:-1] + "x", "nonsense", "a.b", "x" * 5000):
        answer = await world.client().get("/v1/session", headers={"cookie": f"{cookie.name}={value}"})
        assert_problem(answer, 401, "unauthorized", "cookie")


async def test_other_origins_are_let_in_only_where_the_operator_says_so(build) -> None:
    world: World = await build(cors_origins=("https://app.example",))
    asks = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, idempotency-key, safelight-client",
    }
    answer = await world.client().options(f"{world.p}/jobs", headers=asks)
    assert answer.status_code == 200, answer.text
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "POST" in answer.headers["access-control-allow-methods"]
    listed = await world.api.get(f"{world.p}/jobs", headers={"origin": "https://app.example"})
    assert listed.headers["access-control-allow-origin"] == "https://app.example"
    assert "safelight-seq" in listed.headers["access-control-expose-headers"].lower()
    refused = await world.api.get(f"{world.p}/jobs/x", headers={"origin": "https://app.example"})
    assert refused.headers["access-control-allow-origin"] == "https://app.example", "a page may read problems too"
    evil = await world.client().options(f"{world.p}/jobs", headers=asks | {"origin": "https://evil.example"})
    assert evil.status_code == 400
    assert "access-control-allow-origin" not in evil.headers
    assert "access-control-allow-credentials" not in answer.headers, "cookies stay at home"


async def test_without_a_word_from_the_operator_no_other_origin_is_let_in(world: World) -> None:
    asks = {"origin": "https://app.example", "access-control-request-method": "POST"}
    answer = await world.client().options(f"{world.p}/jobs", headers=asks)
    assert "access-control-allow-origin" not in answer.headers
    listed = await world.api.get(f"{world.p}/jobs", headers={"origin": "https://app.example"})
    assert "access-control-allow-origin" not in listed.headers
