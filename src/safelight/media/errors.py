"""What can go wrong with a file, with the stable code that a job's error carries (J7, M1-M5)."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "MediaBusy",
    "MediaError",
    "NotMedia",
    "ObjectMissing",
    "PrivateAddress",
    "ResultExpired",
    "ResultTooLarge",
    "ResultTruncated",
    "ResultUnreachable",
    "StorageUnavailable",
    "UploadError",
    "UploadHashMismatch",
    "UploadInUse",
    "UploadInvalid",
    "UploadMissing",
    "UploadNotMedia",
    "UploadOffsetMismatch",
    "UploadStalled",
    "UploadTooLarge",
    "UploadTooMany",
    "WrongType",
]


class MediaError(Exception):
    """Base. `message` is a sentence a person understands; `retryable`: the same call may succeed later."""

    code: ClassVar[str] = "media_failed"
    default_retryable: ClassVar[bool] = False
    status: ClassVar[int] = 500
    """The HTTP status where it reaches a client directly (uploads, `/media`)."""

    def __init__(self, message: str, *, retryable: bool | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(f"{self.code}: {message}")
        self.message = message
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after_s = retry_after_s


# --- a provider's result --------------------------------------------------------------------------------------


class ResultTooLarge(MediaError):
    """More bytes or pixels than we take."""

    code = "result_too_large"
    status = 413


class NotMedia(MediaError):
    """The bytes are no picture, video or sound: an error page, an archive, noise."""

    code = "result_not_media"
    status = 422


class WrongType(MediaError):
    """Media, but not of the kind that was declared or expected."""

    code = "result_wrong_type"
    status = 422


class ResultTruncated(MediaError):
    """The file ends too early. Retryable if the transfer broke, not if the file itself is short."""

    code = "result_truncated"
    status = 422


class ResultExpired(MediaError):
    """The host says that the file is gone or no longer ours to read (401, 403, 404, 410)."""

    code = "result_expired"
    status = 410


class ResultUnreachable(MediaError):
    """The host did not answer, or not in time, or with an error of its own."""

    code = "result_unreachable"
    default_retryable = True
    status = 502


class PrivateAddress(MediaError):
    """The address is on a private network, whatever its name said (SSRF, M4)."""

    code = "private_address"
    status = 422


# --- our own side ---------------------------------------------------------------------------------------------


class StorageUnavailable(MediaError):
    """The disk or bucket did not take or give the file."""

    code = "storage_unavailable"
    default_retryable = True
    status = 503


class ObjectMissing(MediaError):
    """No file under that key."""

    code = "not_found"
    status = 404


class MediaBusy(MediaError):
    """More work waits for the CPU than we are willing to queue."""

    code = "overloaded"
    default_retryable = True
    status = 503


# --- uploads --------------------------------------------------------------------------------------------------


class UploadError(MediaError):
    """Base of what an uploading client may be told."""

    code = "upload_failed"
    status = 422


class UploadInvalid(UploadError):
    code = "upload_invalid"


class UploadMissing(UploadError):
    """Unknown, expired, or replaced by an upload of the same bytes."""

    code = "upload_not_found"
    status = 404


class UploadTooLarge(UploadError):
    code = "upload_too_large"
    status = 413


class UploadTooMany(UploadError):
    """The project has too many unfinished uploads."""

    code = "upload_too_many"
    default_retryable = True
    status = 429


class UploadInUse(UploadError):
    """Another request is writing this upload right now."""

    code = "upload_in_use"
    default_retryable = True
    status = 409


class UploadStalled(UploadError):
    """The client stopped sending in the middle; what came before is kept."""

    code = "upload_stalled"
    default_retryable = True
    status = 408


class UploadOffsetMismatch(UploadError):
    """The chunk does not start where the received bytes end; `offset` says where that is."""

    code = "upload_offset_mismatch"
    status = 409

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message, retryable=True)
        self.offset = offset


class UploadHashMismatch(UploadError):
    """All bytes are here, but they are not the ones whose hash was announced."""

    code = "upload_hash_mismatch"


class UploadNotMedia(UploadError):
    """All bytes are here, but they are no picture or video we can read."""

    code = "upload_not_media"
