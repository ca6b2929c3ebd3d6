"""The signatures match the providers' test vectors (providers.md §1.10, §2.4)."""

from safelight.emulators.signing import FalSigner, kie_headers

BODY = (
    b'{"request_id":"764cabcf-b745-4b3e-ae38-1200304cf45b","gateway_request_id":"764cabcf-b745-4b3e-ae38-1200304cf45b",'
    b'"status":"OK","payload":{"images":[]}}'
)


def test_fal_signs_as_in_the_test_vector():
    signer = FalSigner(bytes(range(32)), "user_1")
    headers = signer.headers("764cabcf-b745-4b3e-ae38-1200304cf45b", BODY, 1700000000)
    assert headers["X-Fal-Webhook-Signature"] == (
        "d09e959bc0a8e7a019f071fcc996b2c48355250d4b960a38bb3e7523e6e963a9"
        "e3a04a570a5d61b12254542bdeec1cf41c5bc2256eb4a4b90425c68379c10605"
    )
    assert headers["X-Fal-Webhook-User-Id"] == "user_1"
    assert headers["X-Fal-Webhook-Timestamp"] == "1700000000"


def test_the_key_set_holds_the_public_key_of_the_test_vector():
    [key] = FalSigner(bytes(range(32)), "user_1").jwks()["keys"]
    assert key == {"kty": "OKP", "crv": "Ed25519", "x": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}


def test_kie_signs_as_in_the_test_vector():
    headers = kie_headers("test_hmac_key", "task_12345678", 1700000000)
    assert headers["X-Webhook-Signature"] == "Lvq864pP9WO4Osf9yYM1/ju5Kd5jn27GBa8Ls9nx1r4="
    assert headers["X-Webhook-Timestamp"] == "1700000000"


def test_kie_does_not_sign_without_a_key():
    assert kie_headers(None, "task_12345678", 1700000000) == {}


def test_the_same_seed_keeps_the_key_so_that_a_restarted_emulator_is_still_believed():
    assert FalSigner.from_seed(7).jwks() == FalSigner.from_seed(7).jwks()
    assert FalSigner.from_seed(7).jwks() != FalSigner.from_seed(8).jwks()
