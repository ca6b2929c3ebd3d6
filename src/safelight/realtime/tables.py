"""What `postgres_changes` shows of each table: its public columns with PostgreSQL's names of their types. Pure.

An allow-list: a column that a migration adds is not shown until somebody decides that it may be (a test compares
this with the catalog). What is not here is internal: hashes, storage keys, addresses of the app's own webhooks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["ALIASES", "HIDDEN", "SCHEMA", "TABLES"]

SCHEMA: Final = "public"

ALIASES: Final[Mapping[str, str]] = {"tasks": "jobs"}
"""Names that clients may use for our tables (S4)."""

Columns = Mapping[str, str]

TABLES: Final[Mapping[str, Columns]] = {
    "jobs": {
        "id": "uuid", "project_id": "uuid", "status": "text", "stage": "text", "model": "text", "provider": "text",
        "kind": "text", "attempt": "int4", "input": "jsonb", "n": "int4", "target": "jsonb", "template": "text",
        "variables": "jsonb", "start": "text", "quoted": "int8", "charged": "int8", "priority": "int4",
        "error": "jsonb", "generations": "_uuid", "tags": "_text", "metadata": "jsonb", "created_at": "timestamptz",
        "submitted_at": "timestamptz", "completed_at": "timestamptz", "deadline_at": "timestamptz",
        "cancel_requested_at": "timestamptz", "left_out": "_text",
    },
    "generations": {
        "id": "uuid", "project_id": "uuid", "job_id": "uuid", "output_index": "int4", "kind": "text", "mime": "text",
        "width": "int4", "height": "int4", "duration_s": "float4", "bytes": "int8", "thumbhash": "text",
        "starred": "bool", "shots": "jsonb", "prompt": "text", "model": "text", "created_at": "timestamptz",
        "deleted_at": "timestamptz",
    },
    "shots": {
        "id": "uuid", "project_id": "uuid", "name": "text", "position": "text", "settings": "jsonb",
        "created_at": "timestamptz", "updated_at": "timestamptz",
    },
    "shot_generations": {
        "id": "uuid", "project_id": "uuid", "shot_id": "uuid", "generation_id": "uuid", "position": "text",
        "created_at": "timestamptz",
    },
    "nodes": {
        "id": "uuid", "project_id": "uuid", "type": "text", "x": "float8", "y": "float8", "width": "float8",
        "height": "float8", "data": "jsonb", "created_at": "timestamptz", "updated_at": "timestamptz",
    },
    "edges": {
        "id": "uuid", "project_id": "uuid", "source": "uuid", "target": "uuid", "data": "jsonb",
        "created_at": "timestamptz",
    },
    "projects": {"id": "uuid", "name": "text", "created_at": "timestamptz"},
}  # fmt: skip

HIDDEN: Final[Mapping[str, frozenset[str]]] = {
    "jobs": frozenset({"endpoint", "tries", "round", "webhook_url", "request_hash", "created_by", "pinned"}),
    "generations": frozenset({"sha256", "files", "meta"}),
}
"""Columns that are known and not shown."""
