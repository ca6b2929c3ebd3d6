"""What can be wrong in a provider's file beyond its form, each fault with its place (pure)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from safelight.providers.failures import CODES
from safelight.providers.http import is_private_host, origin
from safelight.providers.http_template.blanks import blanks_of
from safelight.providers.http_template.description import Description
from safelight.providers.http_template.selector import Selector, SelectorError
from safelight.providers.toml_lines import Path as At

NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
ENV: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
SCHEMES: Final = ("standard", "hmac-sha256", "none")
ENCODINGS: Final = ("hex", "base64")
SENDING: Final = frozenset({"endpoint", "webhook_url", "attempt_id", "n", "kind"})
"""Blanks that have a value before the provider has answered."""
ASKING: Final = frozenset({"endpoint", "task_id"})
SECRET_BYTES_MIN: Final = 16
BRACES: Final = re.compile(r"[{}\s]")
Fault = tuple[At, str]
"""Where, and what is wrong, as the end of a sentence."""


def faults(about: Description, selectors: dict[str, Selector], environ: Mapping[str, str]) -> Iterator[Fault]:
    """All that is wrong; the expressions that are right go into `selectors`, by their place."""
    if NAME.fullmatch(about.name) is None:
        yield ("name",), "a name is a small letter and then small letters, digits, `-` and `_`, 40 at most"
    yield from _address_faults(about, environ)
    yield from _key_faults(about)
    yield from _limit_faults(about)
    yield from _path_faults(about)
    yield from _state_faults(about)
    yield from _result_faults(about)
    yield from _error_faults(about)
    yield from _webhook_faults(about, environ)
    yield from _selector_faults(about, selectors)


def api_of(about: Description, environ: Mapping[str, str]) -> str:
    """The address that is used: the file's, or the one in the variable that it names."""
    named = environ.get(about.api_env) if about.api_env else None
    return (named or about.api).rstrip("/")


def _address_faults(about: Description, environ: Mapping[str, str]) -> Iterator[Fault]:
    address = api_of(about, environ)
    at: At = ("api",) if address == about.api.rstrip("/") else ("api_env",)
    there = origin(address)
    if there is None or "?" in address or "#" in address or BRACES.search(address):
        yield at, "an address is https:// and a host, perhaps with a port and a path"
    elif there[0] == "http" and not is_private_host(there[1]):
        yield (
            at,
            "without https the key could be read on the way; only addresses of this machine or network may be http",
        )
    if about.api_env is not None and ENV.fullmatch(about.api_env) is None:
        yield ("api_env",), "it is the name of an environment variable"


def _key_faults(about: Description) -> Iterator[Fault]:
    if about.key is not None:
        if ENV.fullmatch(about.key.env) is None:
            yield ("key", "env"), "it is the name of an environment variable, not the key itself"
        if HEADER.fullmatch(about.key.header) is None:
            yield ("key", "header"), "it is no name of a header"
        if about.key.format.count("{key}") != 1 or not _plain(about.key.format):
            yield ("key", "format"), "it has `{key}` once, where the key goes"
    for name, value in about.headers.items():
        if HEADER.fullmatch(name) is None or not _plain(value):
            yield ("headers", name), "it is no header"
        elif name.lower() in ("authorization", "host", "content-length", "content-type", "transfer-encoding"):
            yield ("headers", name), "this header is set by itself (a key goes into `key`)"


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _limit_faults(about: Description) -> Iterator[Fault]:
    limits = about.limits
    if not 1 <= limits.concurrency <= 100_000:
        yield ("limits", "concurrency"), "it is 1 to 100000"
    for name, value in (("rate_per_s", limits.rate_per_s), ("first_look_s", limits.first_look_s)):
        if value is not None and not 0 < value <= 86_400:
            yield ("limits", name), "it is above 0"
    if not 60 <= limits.result_lifetime_s <= 10 * 365 * 86_400:
        yield ("limits", "result_lifetime_s"), "it is at least 60 seconds"
    if not 1 <= limits.read_s <= 55:
        yield ("limits", "read_s"), "it is 1 to 55 seconds"


def _path_faults(about: Description) -> Iterator[Fault]:
    kept = frozenset(about.submit.keep)
    asking = ASKING | kept
    places: list[tuple[str, Any, frozenset[str]]] = [
        ("submit", about.submit, SENDING),
        ("status", about.status, asking),
    ]
    places += [("result", about.result, asking)] if about.result.path is not None else []
    places += [("cancel", about.cancel, asking)] if about.cancel is not None else []
    places += [("find", about.find, frozenset[str]())] if about.find is not None else []
    for part, told, known in places:
        path: str = told.path
        names = list(blanks_of(path))
        whole = len(names) == 1 and path == f"{{{names[0]}}}" and names[0] in kept
        if not (path.startswith("/") or whole) or any(sign.isspace() or sign == "#" for sign in path):
            yield (part, "path"), "a path begins with `/`, or is one kept URL such as `{status_url}`"
        yield from _blank_faults((part, "path"), names, known)
        if getattr(told, "method", "GET") not in METHODS:
            yield (part, "method"), f"a method is one of {', '.join(METHODS)}"
    yield from _blank_faults(("submit", "add"), blanks_of(about.submit.add), SENDING)
    for name in kept & (ASKING | SENDING):
        yield ("submit", "keep", name), "this name has a meaning of its own"
    if about.submit.input_at is not None and about.submit.input_at in about.submit.add:
        yield ("submit", "add", about.submit.input_at), "the input goes there"


def _blank_faults(at: At, names: Iterable[str], known: frozenset[str]) -> Iterator[Fault]:
    for name in names:
        if name not in known:
            may = ", ".join(f"{{{each}}}" for each in sorted(known)) or "nothing"
            yield at, f"nothing fills {{{name}}}; here may stand {may}"


def _state_faults(about: Description) -> Iterator[Fault]:
    seen: dict[object, str] = {}
    for state in ("waiting", "running", "succeeded", "failed", "canceled"):
        for word in getattr(about.status, state):
            key = (type(word) is bool, word)
            if key in seen:
                yield ("status", state), f"{word!r} already stands in {seen[key]}"
            seen[key] = state
    if not about.status.succeeded:
        yield ("status", "succeeded"), "without a word for success no task would ever end"
    if about.status.percent_of <= 0:
        yield ("status", "percent_of"), "it is above 0"


def _result_faults(about: Description) -> Iterator[Fault]:
    if (about.result.urls is None) == (about.result.base64 is None):
        yield ("result",), "it needs either `urls` or `base64`"
    if about.result.base64 is not None and about.result.mime is None:
        yield ("result", "mime"), "bytes need to be called something, e.g. `image/png`"


def _error_faults(about: Description) -> Iterator[Fault]:
    for index, rule in enumerate(about.error):
        if rule.code not in CODES:
            yield ("error", index, "code"), f"{rule.code!r} is none of {', '.join(sorted(CODES))}"
        if not (rule.http or rule.words or rule.when):
            yield ("error", index), "it needs `http`, `words` or `when`, else it would be every error"
        if any(not 400 <= status <= 599 for status in rule.http):
            yield ("error", index, "http"), "errors are 400 to 599"
        if rule.words and about.failure.code is None:
            yield ("error", index, "words"), "there is no `failure.code` that the words could be compared with"


def _webhook_faults(about: Description, environ: Mapping[str, str]) -> Iterator[Fault]:
    hook = about.webhook
    told = "webhook_url" in blanks_of(about.submit.add) or "webhook_url" in blanks_of(about.submit.path)
    if hook is None:
        if told:
            yield ("submit",), "it asks for webhooks, but there is no `webhook` that says how they are proven"
        return
    if not told:
        yield ("webhook",), "nothing tells the provider our URL: `submit.add` needs `{webhook_url}`"
    if hook.scheme not in SCHEMES:
        yield ("webhook", "scheme"), f"{hook.scheme!r} is none of {', '.join(SCHEMES)}"
    elif hook.scheme != "none":
        if hook.secret_env is None or ENV.fullmatch(hook.secret_env) is None:
            yield ("webhook", "secret_env"), "a signature needs the name of the variable that holds its secret"
        else:
            try:
                secret_of(about, environ)
            except ValueError as error:
                yield ("webhook", "secret_env"), f"{hook.secret_env}: {error}"
    if hook.encoding not in ENCODINGS:
        yield ("webhook", "encoding"), f"{hook.encoding!r} is none of {', '.join(ENCODINGS)}"
    if hook.scheme == "hmac-sha256":
        yield from _signed_faults(about)
    if not 1 <= hook.tolerance_s <= 3600:
        yield ("webhook", "tolerance_s"), "it is 1 to 3600 seconds"
    for name in ("header", "id_header", "timestamp_header"):
        if (value := getattr(hook, name)) is not None and HEADER.fullmatch(value) is None:
            yield ("webhook", name), "it is no name of a header"


def _signed_faults(about: Description) -> Iterator[Fault]:
    hook = about.webhook
    assert hook is not None
    names = set(blanks_of(hook.signed))
    yield from _blank_faults(("webhook", "signed"), names, frozenset({"id", "timestamp", "body"}))
    if "body" not in names:
        yield ("webhook", "signed"), "what is not signed is not proven: it needs {body}"
    for blank, header in (("id", "id_header"), ("timestamp", "timestamp_header")):
        if (blank in names) != (getattr(hook, header) is not None):
            yield ("webhook", header), f"{{{blank}}} in `signed` and `{header}` need each other"


def secret_of(about: Description, environ: Mapping[str, str]) -> bytes | None:
    """What webhooks are signed with, None where the variable is not set. Raises ValueError."""
    hook = about.webhook
    given = environ.get(hook.secret_env) if hook is not None and hook.secret_env else None
    if hook is None or not given:
        return None
    if hook.scheme != "standard" and not given.startswith("whsec_"):
        return given.encode()
    text = given.removeprefix("whsec_")
    try:
        secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("a secret is `whsec_` and base64") from None
    if len(secret) < SECRET_BYTES_MIN:
        raise ValueError(f"a secret has at least {SECRET_BYTES_MIN} bytes")
    return secret


def _selector_faults(about: Description, selectors: dict[str, Selector]) -> Iterator[Fault]:
    for at, text in _expressions(about):
        try:
            selectors["".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at)[1:]] = Selector(text)
        except SelectorError as error:
            yield at, f"{text!r} is no JMESPath: {error}"


def _expressions(about: Description) -> Iterator[tuple[At, str]]:
    status, result, failed, hook = about.status, about.result, about.failure, about.webhook
    named: list[tuple[At, str | None]] = [
        (("submit", "task_id"), about.submit.task_id),
        *((("submit", "keep", name), text) for name, text in about.submit.keep.items()),
        (("status", "state"), status.state),
        (("status", "percent"), status.percent),
        (("status", "queue_position"), status.queue_position),
        (("status", "message"), status.message),
        (("result", "urls"), result.urls),
        (("result", "base64"), result.base64),
        (("result", "cost"), result.cost),
        (("failure", "code"), failed.code),
        (("failure", "message"), failed.message),
        *((("error", index, "when"), rule.when) for index, rule in enumerate(about.error)),
        (("webhook", "task_id"), hook.task_id if hook else None),
    ]
    if about.find is not None:
        named += [(("find", name), getattr(about.find, name)) for name in ("items", "mark", "task_id")]
    return ((at, text) for at, text in named if text is not None)
