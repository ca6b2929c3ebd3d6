"""Signing secrets: what the official library makes of them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from safelight.outgoing.secret import SIGNING_MAX, Signer

SIGNER = Signer(b"k" * 32)
OWNER = uuid4()


def test_a_secret_is_whsec_and_32_bytes_and_the_same_each_time():
    secret = SIGNER.secret(OWNER, b"salt")
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert SIGNER.secret(OWNER, b"salt") == secret


def test_each_owner_each_salt_and_each_installation_has_a_secret_of_its_own():
    secrets = {
        SIGNER.secret(OWNER, b"salt"),
        SIGNER.secret(OWNER, b"other"),
        SIGNER.secret(uuid4(), b"salt"),
        Signer(b"o" * 32).secret(OWNER, b"salt"),
    }
    assert len(secrets) == 4


@given(st.text())
def test_the_official_library_proves_what_we_sign(text: str):
    body = text.encode("utf-8", "replace")
    headers = SIGNER.headers(OWNER, [b"new"], message_id="m", at=datetime.now(UTC), body=body)
    Webhook(SIGNER.secret(OWNER, b"new")).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(SIGNER.secret(OWNER, b"other")).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(SIGNER.secret(OWNER, b"new")).verify(body + b" ", headers, json_parse=False)


def test_while_a_secret_is_changed_both_prove():
    headers = SIGNER.headers(OWNER, [b"new", b"old"], message_id="m", at=datetime.now(UTC), body=b"{}")
    for salt in (b"new", b"old"):
        assert Webhook(SIGNER.secret(OWNER, salt)).verify(b"{}", headers) == {}
    assert headers["webhook-signature"].count("v1,") == 2


def test_however_often_it_was_rotated_the_header_stays_short():
    salts = [bytes([index]) for index in range(50)]
    headers = SIGNER.headers(OWNER, salts, message_id="m", at=datetime.now(UTC), body=b"{}")
    assert headers["webhook-signature"].count("v1,") == SIGNING_MAX


def test_the_key_is_not_in_what_is_printed():
    assert "kkk" not in repr(SIGNER)
