"""All providers of an installation, from its settings. One without a key is there, but says why it cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from safelight.providers import fal, kie, openai, pull, replicate, signed
from safelight.providers.base import (
    Accepted,
    AccountProblem,
    CancelAnswer,
    Capabilities,
    Observation,
    ProgressSink,
    Provider,
    SubmitRequest,
    TaskRef,
    WebhookForged,
    WebhookNote,
    WebhookRequest,
)
from safelight.providers.comfyui import CAPABILITIES as COMFYUI
from safelight.providers.comfyui import ComfyProvider, ComfySettings
from safelight.providers.failures import failure
from safelight.providers.fal import FalProvider, FalSettings
from safelight.providers.http_template import HttpTemplateProvider, Template, capabilities_of
from safelight.providers.kie import KieProvider, KieSettings
from safelight.providers.local import WORKERS, LocalProvider
from safelight.providers.openai import OpenAIProvider, OpenAISettings
from safelight.providers.pull import Desk, PullProvider
from safelight.providers.replicate import ReplicateProvider, ReplicateSettings
from safelight.providers.signed import SignedProvider, SignedSettings

WORKERS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """An operator's word on a provider's limits; None = the adapter's own."""

    concurrency: int | None = None
    rate_per_s: float | None = None
    """0 = unlimited."""
    first_look_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Everything the providers need. A missing part leaves its provider there, disabled."""

    fal: FalSettings | None = None
    kie: KieSettings | None = None
    replicate: ReplicateSettings | None = None
    openai: OpenAISettings | None = None
    signed: SignedSettings | None = None
    pull: Desk | None = None
    """Where pull workers find their tasks."""
    comfyui: ComfySettings | None = None
    templates: Sequence[Template] = ()
    """Providers described in files."""
    local_workers: int = WORKERS
    """Threads that draw; 0 = the local provider is off."""
    limits: Mapping[str, Limits] = field(default_factory=dict[str, Limits])
    """By provider's name."""


def build_providers(settings: ProviderSettings) -> dict[str, Provider]:
    """By name. Raises ValueError for settings that make no sense. Close each in the end."""
    named: dict[str, tuple[Capabilities, Callable[[Capabilities], Provider] | None, str]] = {
        "fal": (
            fal.CAPABILITIES,
            (lambda limits, own=settings.fal: FalProvider(own, limits)) if settings.fal and settings.fal.key else None,
            "Set FAL_KEY to a key from fal.ai.",
        ),
        "kie": (
            kie.CAPABILITIES,
            (lambda limits, own=settings.kie: KieProvider(own, limits)) if settings.kie and settings.kie.key else None,
            "Set KIE_API_KEY to a key from kie.ai.",
        ),
        "replicate": (
            replicate.CAPABILITIES,
            (lambda limits, own=settings.replicate: ReplicateProvider(own, limits))
            if settings.replicate and settings.replicate.token
            else None,
            "Set REPLICATE_API_TOKEN to a token from replicate.com.",
        ),
        "openai": (
            openai.CAPABILITIES,
            (lambda limits, own=settings.openai: OpenAIProvider(own, limits))
            if settings.openai and settings.openai.key
            else None,
            "Set OPENAI_API_KEY to a key from platform.openai.com.",
        ),
        "comfyui": (
            COMFYUI,
            (lambda limits, own=settings.comfyui: ComfyProvider(own, limits)) if settings.comfyui else None,
            "Set SAFELIGHT_COMFYUI_URL to the address of a ComfyUI server.",
        ),
        "signed": (
            signed.CAPABILITIES,
            (lambda limits, own=settings.signed: SignedProvider(own, limits)) if settings.signed else None,
            "Set a signed worker's webhook secret.",
        ),
        "pull": (
            pull.CAPABILITIES,
            (lambda limits, own=settings.pull: PullProvider(own, limits)) if settings.pull else None,
            "Pull workers are served by a running installation.",
        ),
    }
    for template in settings.templates:
        if template.name in named or template.name == "local":
            raise ValueError(f"{template.source}: there already is a provider {template.name!r}; choose another name")
        ready = None if template.disabled else template
        named[template.name] = (
            capabilities_of(template),
            (lambda limits, own=ready: HttpTemplateProvider(own, limits)) if ready is not None else None,
            template.disabled or "",
        )
    if not 0 <= settings.local_workers <= WORKERS_MAX:
        raise ValueError(f"local_workers must be 0 to {WORKERS_MAX}")
    unknown = set(settings.limits) - {*named, "local"}
    if unknown:
        raise ValueError(f"limits name {sorted(unknown)}, which are no providers")
    providers = Providers()
    if settings.local_workers:
        providers["local"] = local = LocalProvider(settings.local_workers)
        local.capabilities = limited(local.capabilities, settings.limits.get("local"))
    else:
        providers["local"] = DisabledProvider(
            "local", Capabilities(cancel=False, webhooks=False), "It is switched off."
        )
    for name, (capabilities, make, reason) in named.items():
        own = limited(capabilities, settings.limits.get(name))
        providers[name] = make(own) if make is not None else DisabledProvider(name, own, reason)
    return providers


def limited(capabilities: Capabilities, limits: Limits | None) -> Capabilities:
    """Capabilities with the operator's limits. Raises ValueError."""
    if limits is None:
        return capabilities
    if limits.concurrency is not None:
        if limits.concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        capabilities = replace(capabilities, concurrency=limits.concurrency)
    if limits.rate_per_s is not None:
        if limits.rate_per_s < 0:
            raise ValueError("rate_per_s may not be negative")
        capabilities = replace(capabilities, rate_per_s=limits.rate_per_s or None)
    if limits.first_look_s is not None:
        if limits.first_look_s <= 0:
            raise ValueError("first_look_s must be above 0")
        capabilities = replace(capabilities, first_look_s=limits.first_look_s)
    return capabilities


class Providers(dict[str, Provider]):
    """By name. A provider that was described in a file, and is there no more, still has jobs and attempts: asked for by
    its name it is one that is not set up, so that they come to an end. It is not `in` here and not listed.
    """

    def __missing__(self, name: str) -> Provider:
        return DisabledProvider(name, Capabilities(cancel=False, webhooks=False), "It is not set up any more.")


class DisabledProvider:
    """A provider this installation has no key for. Jobs that need it fail with the reason; nothing is sent."""

    def __init__(self, name: str, capabilities: Capabilities, reason: str) -> None:
        self.name = name
        self.capabilities = capabilities
        self.disabled: str | None = reason

    def _problem(self) -> AccountProblem:
        return AccountProblem(failure("provider_disabled", self.disabled))

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        raise self._problem()

    async def inspect(self, ref: TaskRef) -> Observation:
        raise self._problem()

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        raise self._problem()

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        raise self._problem()

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        raise self._problem()

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        raise WebhookForged("this provider is not set up here")

    async def close(self) -> None:
        return None
