"""Secrets have no place in a log (O4). Works on the finished line, so that no nesting and no traceback escapes. Pure.

What it knows: our keys and other makers' that are told by their look, tokens, webhook paths, credentials in URLs and
headers, and fields that are called like a secret.
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = b"[redacted]"

SECRET_FIELDS: Final = frozenset(
    {
        "authorization", "proxy-authorization", "cookie", "set-cookie", "apikey", "api_key", "api-key", "x-api-key",
        "token", "access_token", "refresh_token", "id_token", "secret", "secret_key", "client_secret", "password",
        "passwd", "plaintext", "private_key",
    }
)  # fmt: skip
"""Names, in lower case, of fields and headers whose value is never shown."""

_NAMES: Final = b"|".join(sorted((re.escape(name.encode()) for name in SECRET_FIELDS), key=len, reverse=True))

# Each begins at a place that a run of its own characters cannot begin at again, so that a hostile line of any length
# is read once.
_RULES: Final = (
    # a field by its name, in JSON or as Python shows a dict
    (re.compile(rb"""(?i)(["'](?:%b)["']\s*:\s*)("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""" % _NAMES), rb'\1"%b"'),
    # the same inside a text that is itself JSON
    (re.compile(rb"""(?i)(\\+["'](?:%b)\\+["']\s*:\s*\\+["'])[^"'\\]+""" % _NAMES), rb"\1%b"),
    # our keys (the eight characters that lists show may stay), OpenAI's, Replicate's
    (re.compile(rb"(?<![0-9A-Za-z_])([sp]k_)[0-9A-Za-z]{9,}"), rb"\1%b"),
    (re.compile(rb"(?<![\w-])(sk-|r8_)[\w-]{16,}"), rb"\1%b"),
    # a JWT
    (re.compile(rb"(?<![\w-])eyJ[\w-]{4,}\.[\w-]+\.[\w-]*"), rb"%b"),
    # …/hooks/{provider}/{attempt}/{token}
    (re.compile(rb"(/hooks/[\w.-]+/[\w-]+/)[^\s\"'/?\\]+"), rb"\1%b"),
    # an Authorization header's value, wherever it is repeated
    (re.compile(rb"(?i)(?<![\w-])(bearer|basic)\s+[^\s\"',\\]{8,}"), rb"\1 %b"),
    (re.compile(rb"(?<![\w-])([Kk]ey|[Tt]oken)\s+[0-9A-Za-z_-]*[0-9][0-9A-Za-z_:-]{15,}"), rb"\1 %b"),
    # URLs: signatures and credentials in the query, passwords before the host
    (
        re.compile(
            rb"(?i)([?&](?:apikey|api_key|key|token|access_token|s|sig|signature|secret|password|link"
            rb"|x-amz-signature|x-amz-credential|x-amz-security-token)=)[^&\s\"'\\]+"
        ),
        rb"\1%b",
    ),
    (re.compile(rb"(://[^\s/:@\"']*:)[^\s/@\"']+@"), rb"\1%b@"),
)
_COMPILED: Final = tuple((pattern, template % HIDDEN) for pattern, template in _RULES)


def redact(line: bytes) -> bytes:
    """The line without the secrets in it."""
    for pattern, template in _COMPILED:
        line = pattern.sub(template, line)
    return line
