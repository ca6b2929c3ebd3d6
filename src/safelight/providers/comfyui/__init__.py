"""A user's own ComfyUI server as a provider (P2); docs/how-to/add-a-provider.md says how workflows become models."""

from safelight.providers.comfyui.provider import (
    CAPABILITIES,
    Bring,
    ComfyProvider,
    ComfySettings,
    InputUnreadable,
    is_address,
)
from safelight.providers.comfyui.workflow import Workflow, WorkflowError, load_workflows, read_workflow

__all__ = [
    "CAPABILITIES",
    "Bring",
    "ComfyProvider",
    "ComfySettings",
    "InputUnreadable",
    "Workflow",
    "WorkflowError",
    "is_address",
    "load_workflows",
    "read_workflow",
]
