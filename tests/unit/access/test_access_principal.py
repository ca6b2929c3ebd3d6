"""The table of who may do what, written out a second time by hand (S6)."""

from __future__ import annotations

import pytest

from safelight.access.principal import RULES, Principal, Role, Scope, may

ROLES = (None, Role.VIEWER, Role.EDITOR, Role.OWNER, Role.ADMIN)


def somebody(scope: Scope) -> Principal:
    return Principal(
        kind="key" if scope in ("secret", "publishable") else scope, actor="x", user_id=None,
        project_id=None, role=None, scope=scope,
    )  # fmt: skip


# action: (the roles that may, in order of ROLES: - none, v viewer, e editor, o owner, a admin) for each scope
EXPECTED = {
    "read": {"secret": "veoa", "publishable": "", "user": "veoa", "session": "veoa"},
    "write": {"secret": "eoa", "publishable": "", "user": "eoa", "session": "eoa"},
    "manage": {"secret": "oa", "publishable": "", "user": "oa", "session": "oa"},
    "admin": {"secret": "a", "publishable": "", "user": "", "session": ""},
    "flags": {"secret": "a", "publishable": "", "user": "", "session": "a"},
    "credits.grant": {"secret": "oa", "publishable": "", "user": "", "session": ""},
    "work": {"secret": "oa", "publishable": "", "user": "", "session": ""},
    "project.create": {"secret": "a", "publishable": "", "user": "-veoa", "session": ""},
    "socket": {"secret": "-veoa", "publishable": "-veoa", "user": "-veoa", "session": "-veoa"},
    "client_config": {"secret": "-veoa", "publishable": "-veoa", "user": "-veoa", "session": "-veoa"},
}


@pytest.mark.parametrize("action", list(RULES))
@pytest.mark.parametrize("scope", ["secret", "publishable", "user", "session"])
def test_each_role_may_exactly_what_the_table_says(action: str, scope: Scope) -> None:
    allowed = "".join(
        letter
        for letter, role in zip("-veoa", ROLES, strict=True)
        if may(somebody(scope), action, role)  # pyright: ignore[reportArgumentType]
    )
    assert allowed == EXPECTED[action][scope]


def test_every_action_is_in_the_hand_written_table() -> None:
    assert set(EXPECTED) == set(RULES)


def test_an_action_nobody_knows_is_an_error_and_not_a_yes() -> None:
    with pytest.raises(KeyError):
        may(somebody("secret"), "delete everything", Role.ADMIN)  # pyright: ignore[reportArgumentType]


def test_each_role_stands_above_the_one_before() -> None:
    assert Role.VIEWER < Role.EDITOR < Role.OWNER < Role.ADMIN
