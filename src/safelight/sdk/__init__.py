"""The Python client of a Safelight server (K1): `Safelight`, and `AsyncSafelight` for asyncio and trio.

>>> from safelight.sdk import Safelight
>>> client = Safelight()
>>> job = client.submit("local/aurora", {"prompt": "a red fox"})
>>> job.wait()
>>> print(job.download("out"))
"""

from __future__ import annotations

from safelight.sdk.aio.client import AsyncSafelight
from safelight.sdk.aio.job import AsyncJob
from safelight.sdk.blocking.client import Safelight
from safelight.sdk.blocking.job import Job
from safelight.sdk.errors import (
    Conflict,
    DownloadFailed,
    Forbidden,
    IdempotencyMismatch,
    InsufficientCredits,
    InvalidInput,
    JobCanceled,
    JobFailed,
    MustRefetch,
    NotConfigured,
    NotFound,
    Overloaded,
    RateLimited,
    SafelightError,
    TooLarge,
    Unauthorized,
    UnexpectedAnswer,
    UnknownModel,
    Unreachable,
    WaitTimeout,
)
from safelight.sdk.feed import Cursor
from safelight.sdk.follow import Changed, JobEvent, Logged, Progressed
from safelight.sdk.resources import (
    Change,
    Failure,
    Generation,
    JobInfo,
    Key,
    Model,
    Page,
    Progress,
    Project,
    Quote,
    Step,
    Trace,
    Upload,
    Wallet,
)

__all__ = [
    "AsyncJob",
    "AsyncSafelight",
    "Change",
    "Changed",
    "Conflict",
    "Cursor",
    "DownloadFailed",
    "Failure",
    "Forbidden",
    "Generation",
    "IdempotencyMismatch",
    "InsufficientCredits",
    "InvalidInput",
    "Job",
    "JobCanceled",
    "JobEvent",
    "JobFailed",
    "JobInfo",
    "Key",
    "Logged",
    "Model",
    "MustRefetch",
    "NotConfigured",
    "NotFound",
    "Overloaded",
    "Page",
    "Progress",
    "Progressed",
    "Project",
    "Quote",
    "RateLimited",
    "Safelight",
    "SafelightError",
    "Step",
    "TooLarge",
    "Trace",
    "Unauthorized",
    "UnexpectedAnswer",
    "UnknownModel",
    "Unreachable",
    "Upload",
    "WaitTimeout",
    "Wallet",
]
