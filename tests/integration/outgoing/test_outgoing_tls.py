"""Over https, as it is sent in life: the address is pinned, the name and its certificate are checked all the same."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from outgoing_world import Room, now, receiving

from safelight.outgoing import post

NAME = "hooks.example.com"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed one for `NAME`, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - datetime.timedelta(days=1))
        .not_valid_after(now() + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "receiver.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


async def here(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def told(room: Room, name: str, trusted: Path | None, certificate: Path, patch: pytest.MonkeyPatch) -> str:
    """One try to a receiver with this certificate, which has the name `NAME`; what the log says of it."""
    if trusted is not None:
        patch.setenv("SSL_CERT_FILE", str(trusted))
    post._tls.cache_clear()
    try:
        async with receiving(ssl_keyfile=str(certificate), ssl_certfile=str(certificate)) as receiver:
            _, key = await room.webhook(url=f"https://{name}:{receiver.port}/hook", events=["job.completed"])
            room.sender(resolver=here, allow=[f"{name}:{receiver.port}"])
            await room.completed()
            room.wake()
            if trusted is not None and name == NAME:
                (log,) = await room.becomes("delivered")
                receiver.heard[0].proven(key)
                assert receiver.heard[0].headers["host"] == f"{name}:{receiver.port}"
            else:
                (log,) = await room.becomes("pending", tries=1)
                assert receiver.heard == []
    finally:
        post._tls.cache_clear()
    return str(log["tries"][0]["error"])


async def test_a_receiver_with_a_good_certificate_is_told(
    room: Room, certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    assert await told(room, NAME, certificate, certificate, monkeypatch) == "None"


async def test_one_that_nobody_vouches_for_is_told_nothing(
    room: Room, certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    assert "certificate" in await told(room, NAME, None, certificate, monkeypatch)


async def test_one_that_vouches_for_another_name_is_told_nothing(
    room: Room, certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    assert "certificate" in await told(room, "other.example.com", certificate, certificate, monkeypatch)
