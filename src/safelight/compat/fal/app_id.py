"""Which model an app id means: a model's own name, or the id that a provider of fal's kind knows it by. Pure."""

from __future__ import annotations

import re
from typing import Final

from safelight.providers.model import Model
from safelight.providers.registry import Registry

OWN: Final = "safelight/"
"""fal's clients take no id without a slash: `safelight/veo3` means the model `veo3`."""
APP_ID_MAX: Final = 210
_NAMESPACES: Final = frozenset({"workflows", "comfy"})
_OLD_FORM: Final = re.compile(r"(\d+)-([a-zA-Z0-9-]+)")


def find_model(models: Registry, app: str) -> Model | None:
    """The model with this name, else one that some provider makes under it. None: there is no such app.

    An app id chooses no provider: a model that several make keeps them all (P6).
    """
    if len(app) > APP_ID_MAX:
        return None
    if model := models.get(app) or models.get(app.removeprefix(OWN)):
        return model
    # Endpoints without a slash (`aurora`, `gpt-image-2`) are names among a provider's own, not app ids.
    return next((model for model in models if any("/" in r.endpoint and r.endpoint == app for r in model.routes)), None)


def normalized(app: str) -> str:
    """Without stray slashes, and `1234-name` as `1234/name`."""
    parts = [part for part in app.split("/") if part]
    if len(parts) == 1 and (old := _OLD_FORM.fullmatch(parts[0])):
        parts = list(old.groups())
    return "/".join(parts)


def base_of(app: str) -> str:
    """`[namespace/]owner/alias`, what requests are filed under: clients build status, result and cancel so.

    An id without a slash is under `safelight/`, where they can.
    """
    parts = app.split("/")
    if len(parts) == 1:
        return OWN + app
    return "/".join(parts[: 3 if parts[0] in _NAMESPACES else 2])
