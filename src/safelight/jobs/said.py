"""A provider's word as JSON, for words that prove themselves and come once: a signed webhook with the result inside."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from safelight.jobs import attempts
from safelight.providers.base import Canceled, Failed, Failure, Observation, Output, Running, Succeeded, Waiting


def to_json(seen: Observation | None) -> dict[str, Any] | None:
    """None for what says nothing (`Missing`, `Unchanged`)."""
    match seen:
        case Succeeded(outputs=outputs, cost=cost):
            addressed = Succeeded([_addressed(output) for output in outputs], cost)
            return {"kind": "succeeded", "outputs": attempts.outputs_to_json(addressed), "cost": cost}
        case Failed(failure=failure):
            return {"kind": "failed", "failure": msgspec.to_builtins(failure)}
        case Running(percent=percent, message=message, logs=logs):
            return {"kind": "running", "percent": percent, "message": message, "logs": list(logs)}
        case Waiting(queue_position=position):
            return {"kind": "waiting", "queue_position": position}
        case Canceled():
            return {"kind": "canceled"}
        case _:
            return None


def from_json(said: dict[str, Any]) -> Observation:
    """Raises KeyError for a kind that `to_json` does not make."""
    match said["kind"]:
        case "succeeded":
            return Succeeded(attempts.outputs_from_json(said["outputs"]), said["cost"])
        case "failed":
            return Failed(Failure(**said["failure"]))
        case "running":
            return Running(said["percent"], said["message"], said["logs"])
        case "waiting":
            return Waiting(said["queue_position"])
        case "canceled":
            return Canceled()
        case kind:
            raise KeyError(kind)


def _addressed(output: Output) -> Output:
    """Bytes in hand become an address that carries them, so that they survive this process."""
    if output.data is None:
        return output
    mime = output.mime or "application/octet-stream"
    return Output(url=f"data:{mime};base64,{base64.b64encode(output.data).decode()}", mime=mime, meta=output.meta)
