"""What conformance tests share: a certificate nobody else trusts, and npm."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NODE_FOLDER = Path(__file__).parent / "node"
NODE_TIMEOUT_S = 180


@dataclass(frozen=True)
class Certificates:
    """A CA, and a certificate of its for `localhost` and `127.0.0.1`."""

    ca: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Safelight test CA")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        _builder(name, ca_name, key.public_key())
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    made = Certificates(folder / "ca.pem", folder / "leaf.pem", folder / "leaf.key")
    made.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
    )


def install_node_clients() -> str:
    """The path of `node`, with the locked clients installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node is not None, "conformance tests need Node 20 or newer"
    assert npm is not None, "conformance tests need npm"
    if not (NODE_FOLDER / "node_modules" / ".package-lock.json").exists():
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"],
            cwd=NODE_FOLDER,
            capture_output=True,
            text=True,
            timeout=NODE_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
    return node


def run_script(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Standard output of a client in a process of its own, without the proxies of this machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    inherited = {name: value for name, value in inherited.items() if not name.startswith("FAL_")}
    done = subprocess.run(
        command,
        env={**inherited, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=NODE_TIMEOUT_S,
        cwd=NODE_FOLDER.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
