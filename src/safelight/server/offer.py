"""What this installation offers, from the operator's files and settings: models, workflows, providers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from safelight.jobs.pulling import PullDesk
from safelight.providers.comfyui import Bring, ComfySettings, Workflow, WorkflowError, is_address, load_workflows
from safelight.providers.factory import Limits, ProviderSettings
from safelight.providers.fal import FalSettings
from safelight.providers.http_template import Template, load_templates
from safelight.providers.kie import KieSettings
from safelight.providers.openai import OpenAISettings
from safelight.providers.registry import Registry
from safelight.providers.replicate import ReplicateSettings
from safelight.providers.signed import SignedSettings
from safelight.server.settings import Settings


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be made here, from the operator's files: read first, so that a mistake in one ends the start at once."""

    templates: Sequence[Template]
    workflows: Sequence[Workflow]
    models: Registry

    @classmethod
    def read(cls, settings: Settings) -> Offer:
        """Raises RegistryError, TemplateError or WorkflowError."""
        templates = load_templates(settings.providers, os.environ)
        workflows = load_workflows(settings.comfyui_workflows) if settings.comfyui_workflows is not None else []
        if settings.comfyui_url is not None and not is_address(settings.comfyui_url):
            raise WorkflowError("SAFELIGHT_COMFYUI_URL: it is http(s):// and a host, perhaps with a port and a path.")
        described = [model for template in templates for model in template.models]
        models = Registry.load(settings.models, [*described, *(workflow.model for workflow in workflows)])
        return cls(templates, workflows, models)


def _comfyui_headers(settings: Settings) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in settings.comfyui_headers.items()}


def comfyui_doors(settings: Settings) -> dict[str, dict[str, str]]:
    """The one private address that results may come from, and what is sent along there."""
    if settings.comfyui_url is None:
        return {}
    return {f"{settings.comfyui_url.rstrip('/')}/view": _comfyui_headers(settings)}


def provider_settings(settings: Settings, offer: Offer, bring: Bring, desk: PullDesk) -> ProviderSettings:
    """What each provider is told; those without a key are not there. `bring` fetches start images for them."""
    fal = kie = replicate = openai = signed = comfyui = None
    if settings.comfyui_url is not None:
        comfyui = ComfySettings(
            url=settings.comfyui_url, workflows=offer.workflows, bring=bring, headers=_comfyui_headers(settings)
        )
    if settings.fal_key is not None:
        fal = FalSettings(
            key=settings.fal_key.get_secret_value(), queue_url=settings.fal_queue_url, rest_url=settings.fal_rest_url
        )
    if settings.kie_key is not None:
        hmac_key = settings.kie_webhook_key.get_secret_value() if settings.kie_webhook_key else None
        kie = KieSettings(key=settings.kie_key.get_secret_value(), api_url=settings.kie_url, webhook_hmac_key=hmac_key)
    if settings.replicate_token is not None:
        secret = settings.replicate_webhook_secret
        replicate = ReplicateSettings(
            token=settings.replicate_token.get_secret_value(),
            api_url=settings.replicate_url,
            webhook_secret=secret.get_secret_value() if secret else None,
        )
    if settings.openai_key is not None:
        openai = OpenAISettings(
            key=settings.openai_key.get_secret_value(),
            spool=settings.data / "spool" / "openai",
            api_url=settings.openai_url,
            organization=settings.openai_organization,
            project=settings.openai_project,
            bring=bring,
        )
    if settings.signed_secret is not None:
        signed = SignedSettings([settings.signed_secret.get_secret_value()])
    limits = {
        name: Limits(concurrency=settings.provider_concurrency.get(name), rate_per_s=settings.provider_rate.get(name))
        for name in {*settings.provider_concurrency, *settings.provider_rate}
    }
    return ProviderSettings(
        fal=fal,
        kie=kie,
        replicate=replicate,
        openai=openai,
        signed=signed,
        pull=desk,
        comfyui=comfyui,
        templates=offer.templates,
        local_workers=settings.local_workers,
        limits=limits,
    )
