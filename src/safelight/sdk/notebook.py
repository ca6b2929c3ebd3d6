"""How a job looks in a notebook (K1)."""

from __future__ import annotations

import html
from collections.abc import Sequence

from safelight.sdk.errors import DownloadFailed
from safelight.sdk.files import address
from safelight.sdk.resources import Generation, JobInfo


def job_html(job: JobInfo, results: Sequence[Generation]) -> str:
    """Its pictures and clips, or what is known of it."""
    tiles = "".join(_tile(generation) for generation in results)
    error = f": {job.error.message}" if job.error else ""
    return f"<div>{tiles or html.escape(f'{job.model} {job.stage}{error} ({job.id})')}</div>"


def _tile(generation: Generation) -> str:
    try:
        source = html.escape(address(generation))
    except DownloadFailed:
        return ""
    style = 'style="max-width: 320px; margin: 4px"'
    if generation.kind == "video":
        return f'<video src="{source}" controls {style}></video>'
    if generation.kind == "audio":
        return f'<audio src="{source}" controls></audio>'
    return f'<img src="{source}" alt="{html.escape(generation.prompt or "")}" {style}>'
