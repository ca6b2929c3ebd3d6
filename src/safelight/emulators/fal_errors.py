"""fal's error catalogue (providers.md §1.8): model errors come as a list, platform errors flat."""

from __future__ import annotations

from dataclasses import dataclass

from safelight.emulators.task import JSON, Broken

DOCS = "https://docs.fal.ai/errors#"

# type → (HTTP, what fal says about retrying, message)
MODEL_ERRORS: dict[str, tuple[int, bool, str]] = {
    "internal_server_error": (500, True, "Internal server error"),
    "generation_timeout": (504, True, "Generation timeout"),
    "downstream_service_error": (400, True, "Downstream service error"),
    "downstream_service_unavailable": (500, True, "Downstream service unavailable"),
    "content_policy_violation": (422, False, "The content was flagged by a content checker."),
    "no_media_generated": (422, False, "No media was generated"),
    "image_too_small": (422, False, "Image is too small"),
    "image_too_large": (422, False, "Image is too large"),
    "image_load_error": (422, False, "Failed to load the image"),
    "file_download_error": (422, False, "Failed to download the file"),
    "face_detection_error": (422, False, "Could not detect a face in the image"),
    "file_too_large": (422, False, "File is too large"),
    "greater_than": (422, False, "Input should be greater than the minimum"),
    "greater_than_equal": (422, False, "Input should be greater than or equal to the minimum"),
    "less_than": (422, False, "Input should be less than the maximum"),
    "less_than_equal": (422, False, "Input should be less than or equal to the maximum"),
    "multiple_of": (422, False, "Input should be a multiple of the step"),
    "sequence_too_short": (422, False, "Sequence is too short"),
    "sequence_too_long": (422, False, "Sequence is too long"),
    "one_of": (422, False, "Input should be one of the permitted values"),
    "feature_not_supported": (422, False, "This feature is not supported"),
    "missing": (422, False, "Field required"),
    "unsupported_image_format": (422, False, "Unsupported image format"),
    "unsupported_video_format": (422, False, "Unsupported video format"),
    "unsupported_audio_format": (422, False, "Unsupported audio format"),
    "video_duration_too_long": (422, False, "Video duration is too long"),
    "video_duration_too_short": (422, False, "Video duration is too short"),
    "audio_duration_too_long": (422, False, "Audio duration is too long"),
    "audio_duration_too_short": (422, False, "Audio duration is too short"),
    "invalid_archive": (422, False, "Invalid archive"),
    "archive_file_count_below_minimum": (422, False, "Archive has too few files"),
    "archive_file_count_exceeds_maximum": (422, False, "Archive has too many files"),
}  # fmt: skip

# error_type → (HTTP, message)
PLATFORM_ERRORS: dict[str, tuple[int, str]] = {
    "request_timeout": (504, "Request timed out"),
    "startup_timeout": (504, "Runner startup timed out"),
    "runner_scheduling_failure": (503, "Could not schedule a runner"),
    "runner_connection_timeout": (503, "Connection to the runner timed out"),
    "runner_disconnected": (503, "Runner disconnected"),
    "runner_connection_refused": (503, "Runner refused the connection"),
    "runner_connection_error": (503, "Could not connect to the runner"),
    "runner_incomplete_response": (502, "Runner sent an incomplete response"),
    "runner_server_error": (500, "Runner server error"),
    "internal_error": (500, "Internal error"),
    "client_disconnected": (499, "Client disconnected"),
    "client_cancelled": (499, "Request cancelled by the client"),
    "bad_request": (400, "Bad request"),
}

SHORT_NAMES = {"content_policy": "content_policy_violation", "transient": "runner_disconnected"}
BALANCE = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."


@dataclass(frozen=True, slots=True)
class FalError:
    """How a failed request answers its result GET. `error_type` is set for platform errors only."""

    status: int
    body: JSON
    headers: dict[str, str]
    error_type: str | None

    @property
    def text(self) -> str:
        """What the webhook and the status call it."""
        return str(self.body["detail"]) if self.error_type else f"Invalid status code: {self.status}"


def known(reason: str) -> bool:
    reason = SHORT_NAMES.get(reason, reason)
    return reason in MODEL_ERRORS or reason in PLATFORM_ERRORS


def fal_error(broken: Broken) -> FalError:
    """An unknown reason (from another provider's words) is a plain model failure."""
    reason = SHORT_NAMES.get(broken.reason, broken.reason)
    if reason in PLATFORM_ERRORS:
        status, message = PLATFORM_ERRORS[reason]
        headers = {"X-Fal-Error-Type": reason, "X-Fal-Needs-Retry": "1" if status >= 500 else "0"}
        if broken.user_timeout:
            headers["X-Fal-Request-Timeout-Type"] = "user"
        return FalError(status, {"detail": message, "error_type": reason}, headers, reason)
    status, retry, message = MODEL_ERRORS.get(reason, (422, False, "Invalid input"))
    entry: JSON = {
        "loc": ["body", broken.field],
        "msg": broken.message or message,
        "type": reason,
        "url": f"{DOCS}{reason}",
        "input": broken.value,
    }
    if broken.context:
        entry["ctx"] = broken.context
    return FalError(status, {"detail": [entry]}, {"X-Fal-Needs-Retry": "1" if retry else "0"}, None)
