"""Every setting of an installation, from the environment (`SAFELIGHT_…`). The defaults run on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Role = Literal["api", "realtime", "worker"]


class Settings(BaseSettings):
    """What is not set is either not needed or made by the installation itself and kept in its database."""

    model_config = SettingsConfigDict(
        env_prefix="SAFELIGHT_", extra="ignore", validate_default=True, populate_by_name=True
    )

    host: str = "127.0.0.1"
    port: int = 8080
    roles: Annotated[tuple[Role, ...], NoDecode] = ("api", "realtime", "worker")
    data: Path = Path(".safelight")
    """Files of this installation: media (unless `storage_url`), unfinished uploads, the embedded database."""
    database_url: str | None = None
    """Any PostgreSQL 15+; absent: the embedded one."""
    database_connections: int = 12
    nats_url: str | None = None
    """`nats://[user:password@]host:4222[,…]`, `tls://…`: hints between processes go over NATS; absent: NOTIFY."""
    storage_url: str | None = None
    """`s3://bucket/prefix`, `gs://…`, `az://…`, `file:///…`; absent: `data`/media."""
    public_url: str | None = None
    """Where providers reach this server with webhooks and fetch start images; absent: they are polled."""
    models: Path | None = None
    """The operator's own model file."""
    providers: Annotated[tuple[str, ...], NoDecode] = ()
    """Providers described in TOML: files, folders of them, or the shipped `runway` and `luma` by name."""
    comfyui_url: str | None = None
    """A ComfyUI server, e.g. `http://127.0.0.1:8188`; the only setting that lets it be on a private address."""
    comfyui_workflows: Path | None = None
    """A folder of workflows: each a graph as ComfyUI exports it (API) and a TOML file that names its variables."""
    comfyui_headers: dict[str, SecretStr] = Field(default_factory=dict)
    """JSON: headers that what stands before ComfyUI wants, e.g. `{"authorization": "Bearer …"}`."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    admins: Annotated[tuple[str, ...], NoDecode] = ()
    """User ids whose studio shows the flags of the installation and may change them (S8)."""

    jwt_secret: SecretStr | None = None
    jwks_url: str | None = None
    jwt_audience: str | None = None
    media_secret: SecretStr | None = None

    fal_key: SecretStr | None = Field(None, validation_alias=AliasChoices("SAFELIGHT_FAL_KEY", "FAL_KEY"))
    fal_queue_url: str = "https://queue.fal.run"
    fal_rest_url: str = "https://rest.fal.ai"
    kie_key: SecretStr | None = Field(None, validation_alias=AliasChoices("SAFELIGHT_KIE_KEY", "KIE_API_KEY"))
    kie_url: str = "https://api.kie.ai"
    kie_webhook_key: SecretStr | None = None
    replicate_token: SecretStr | None = Field(
        None, validation_alias=AliasChoices("SAFELIGHT_REPLICATE_TOKEN", "REPLICATE_API_TOKEN")
    )
    replicate_url: str = "https://api.replicate.com/v1"
    replicate_webhook_secret: SecretStr | None = None
    """`whsec_…`; absent: asked for with the token."""
    openai_key: SecretStr | None = Field(None, validation_alias=AliasChoices("SAFELIGHT_OPENAI_KEY", "OPENAI_API_KEY"))
    openai_url: str = "https://api.openai.com/v1"
    openai_organization: str | None = None
    openai_project: str | None = None
    signed_secret: SecretStr | None = None
    """`whsec_…` of workers that report with signed webhooks."""
    local_workers: int = 2
    provider_concurrency: dict[str, int] = Field(default_factory=dict)
    """JSON, e.g. `{"fal": 40}`: places at a provider; absent: the adapter's own."""
    provider_rate: dict[str, float] = Field(default_factory=dict)
    """JSON, e.g. `{"kie": 2}`: new tasks a second; 0 = unlimited; absent: the adapter's own."""
    project_concurrency: int = 50

    allow_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """`host:port` of private addresses that results may come from and webhooks may go to: emulators, a ComfyUI at
    home, an app beside us (M4, J12)."""
    allow_emulator: bool = False
    """Let `_emulator` in inputs through. Never on an installation that pays for its jobs."""

    lease_s: float = 30.0
    unknown_grace_s: float = 600.0
    unknown_then: Literal["fail", "resubmit"] = "fail"
    changes_kept_days: float = 30.0
    log_format: Literal["json", "console"] = "json"
    log_level: str = "info"

    @field_validator("roles", "cors_origins", "admins", "allow_hosts", "providers", mode="before")
    @classmethod
    def split(cls, given: object) -> object:
        """`a, b` from the environment is a list."""
        if isinstance(given, str):
            return tuple(part.strip() for part in given.split(",") if part.strip())
        return given
