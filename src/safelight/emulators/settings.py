"""What can be set about the emulators. Everything has a default that suits a laptop."""

from __future__ import annotations

from dataclasses import dataclass

# Nothing is unbounded: an emulator may run for days beside a demo.
TASKS_MAX = 20_000  # tasks, accepted submits and deliveries remembered per provider; oldest finished go first
UNFINISHED_MAX = 10_000  # beyond it a submit is refused as overloaded
FILES_MAX = 60_000  # recipes of generated files (a recipe is about 300 bytes)
BODY_BYTES_MAX = 32 * 1024 * 1024  # a submit may carry data: URIs
UPLOAD_BYTES_MAX = 512 * 1024 * 1024
UPLOADS_BYTES_MAX = 1024 * 1024 * 1024
MEDIA_CACHE_BYTES_MAX = 24 * 1024 * 1024  # the whole system rests below 250 MB
HANG_S = 60.0  # "never answers" must end some day
WEBHOOK_TIMEOUT_S = 15.0  # first attempt's timeout at fal and KIE (providers.md §1.10, §2.4)
WEBHOOKS_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorSettings:
    """Settings of both emulators. Durations are real seconds unless `time_scale` is said to apply."""

    base_url: str | None = None
    """Where clients reach the app, without a trailing slash; None = whatever host each request names."""
    seed: int = 0
    """Decides the signing key, the pictures of requests without a seed, and the order of random faults."""

    fal_keys: frozenset[str] | None = None
    """Accepted `id:secret` keys; None = any that is not empty."""
    kie_keys: frozenset[str] | None = None
    kie_webhook_hmac_key: str | None = None
    """None = callbacks are unsigned, as at KIE before a key is made in the account settings."""
    kie_mirror_code_in_http: bool = False
    """Answer with the envelope's code as HTTP status too, which some KIE endpoints may do."""
    kie_veo_code_in_envelope: bool = False
    """Answer a failed clip's record with the failure as the envelope's code and no record, as its page also allows."""
    kie_credits: int = 1_000_000
    kie_rate_per_10s: int | None = None
    """KIE's documented limit is 20 new tasks in 10 s; off unless set, so that load tests measure us."""
    replicate_tokens: frozenset[str] | None = None
    openai_keys: frozenset[str] | None = None
    openai_rate_per_min: int | None = None
    """Images a minute; off unless set."""
    fal_run_concurrency: int = 40
    """Direct runs at once (queue requests wait instead)."""

    comfyui_token: str | None = None
    """What a proxy before ComfyUI asks for; None = nothing, as ComfyUI itself."""
    comfyui_takes_ids: bool = True
    """False = an older server, which chooses prompt ids itself."""
    comfyui_jobs_api: bool = True
    """False = an older server without `/api/jobs`."""

    image_latency_s: float = 1.5
    video_latency_s: float = 3.0
    time_scale: float = 1.0
    """Multiplies default latencies (never one that a request asks for)."""
    queue_share: float = 0.2
    """Part of the latency spent waiting in the provider's queue."""
    queue_length: int = 3
    """Position a new request gets; it counts down to 0."""

    result_lifetime_s: float = 3600.0
    big_result_lifetime_s: float = 360.0
    """fal keeps a result JSON of 10 kB or more for about six minutes only."""
    kie_url_lifetime_s: float = 24 * 3600.0
    kie_signed_url_lifetime_s: float = 20 * 60.0

    replicate_lifetime_s: float = 3600.0
    """Everything of a prediction is removed after an hour, its files too."""

    webhook_retry_scale: float = 0.01
    """fal retries after 120 s and then ever later; 0.01 makes that 1.2 s."""
    webhook_retries_max: int = 31
    kie_webhook_retries: int = 0
    """KIE publishes no retries for callbacks."""
    late_s: float = 3.0
    """How late the fault `late` is."""
    slow_s: float = 5.0
    """How long the faults `slow` take."""
    huge_bytes: int = 2 * 1024 * 1024 * 1024
    """Size of the fault `huge`: far beyond any sane download limit, yet not endless."""
    media_threads: int = 2
