"""The providers of an installation."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from safelight.providers.base import AccountProblem, SubmitRequest, TaskRef, WebhookForged, WebhookRequest
from safelight.providers.factory import Limits, ProviderSettings, build_providers
from safelight.providers.fal import FalSettings
from safelight.providers.kie import KieSettings
from safelight.providers.openai import OpenAISettings
from safelight.providers.registry import Registry
from safelight.providers.replicate import ReplicateSettings
from safelight.providers.signed import SignedSettings

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"


async def close(providers):
    for provider in providers.values():
        await provider.close()


async def test_without_any_key_only_the_local_provider_works_and_the_others_say_why():
    providers = build_providers(ProviderSettings())
    assert [name for name, provider in providers.items() if provider.disabled is None] == ["local"]
    assert {"fal", "kie", "replicate", "openai", "signed"} < set(providers)
    keys = {"fal": "FAL_KEY", "kie": "KIE_API_KEY", "replicate": "REPLICATE_API_TOKEN", "openai": "OPENAI_API_KEY"}
    for name, key in keys.items():
        assert key in (providers[name].disabled or "")
    await close(providers)


async def test_every_shipped_model_has_its_provider():
    providers = build_providers(ProviderSettings())
    assert {route.provider for model in Registry.load() for route in model.routes} <= set(providers)
    assert all(name == provider.name for name, provider in providers.items())
    await close(providers)


async def test_a_disabled_provider_sends_nothing_and_believes_nothing():
    fal = build_providers(ProviderSettings())["fal"]

    async def sink(_):
        pass

    with pytest.raises(AccountProblem) as caught:
        await fal.submit(SubmitRequest("a", "e", "image", {}, 1, None), sink)
    assert caught.value.failure.code == "provider_disabled"
    assert "FAL_KEY" in caught.value.failure.message
    for asked in (fal.inspect, fal.cancel):
        with pytest.raises(AccountProblem):
            await asked(TaskRef("t", "e"))
    with pytest.raises(WebhookForged):
        await fal.verify_webhook(WebhookRequest({}, b"{}", datetime.now(UTC)))


async def test_keys_bring_providers_to_life_and_limits_are_the_operators(tmp_path: Path):
    providers = build_providers(
        ProviderSettings(
            fal=FalSettings(key="id:secret", queue_url="http://127.0.0.1:1/fal/queue"),
            kie=KieSettings(key="k"),
            replicate=ReplicateSettings(token="t", webhook_secret=SECRET),
            openai=OpenAISettings(key="k", spool=tmp_path),
            signed=SignedSettings([SECRET]),
            local_workers=1,
            limits={
                "fal": Limits(concurrency=7),
                "kie": Limits(rate_per_s=0, first_look_s=9),
                "local": Limits(concurrency=1),
            },
        )
    )
    alive = {name for name, provider in providers.items() if provider.disabled is None}
    assert alive == {"fal", "kie", "local", "openai", "replicate", "signed"}
    assert providers["fal"].capabilities.concurrency == 7
    assert providers["kie"].capabilities.rate_per_s is None
    assert providers["kie"].capabilities.first_look_s == 9
    assert providers["local"].capabilities.concurrency == 1
    await close(providers)


@pytest.mark.parametrize(
    "settings",
    [
        ProviderSettings(local_workers=99),
        ProviderSettings(limits={"fall": Limits()}),
        ProviderSettings(limits={"fal": Limits(concurrency=0)}),
        ProviderSettings(limits={"fal": Limits(rate_per_s=-1)}),
        ProviderSettings(limits={"fal": Limits(first_look_s=0)}),
        ProviderSettings(signed=SignedSettings([])),
        ProviderSettings(signed=SignedSettings(["whsec_short"])),
        ProviderSettings(replicate=ReplicateSettings(token="t", webhook_secret="whsec_short")),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_the_start(settings):
    with pytest.raises(ValueError):
        build_providers(settings)


async def test_the_local_provider_can_be_switched_off():
    assert build_providers(ProviderSettings(local_workers=0))["local"].disabled is not None


def test_printed_settings_show_no_secret():
    settings = ProviderSettings(
        fal=FalSettings(key="id:hush"),
        kie=KieSettings(key="hush", webhook_hmac_key="hush"),
        replicate=ReplicateSettings(token="hush", webhook_secret="hush"),
        openai=OpenAISettings(key="hush", spool=Path("spool")),
        signed=SignedSettings(["hush"]),
    )
    assert "hush" not in repr(settings)
