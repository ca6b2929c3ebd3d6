"""K3: the client's types are the server's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from demo_server import Demo

JS = Path(__file__).resolve().parents[2] / "js"
GENERATE_S = 120


def test_the_clients_types_are_made_from_this_servers_document(demo: Demo) -> None:
    """Stale: `curl $URL/openapi.json | npm run --silent api > client/src/openapi.ts` in js/."""
    document = demo.http.get("/openapi.json").raise_for_status().content
    made = subprocess.run(
        ["node", "openapi/generate.mjs"], cwd=JS, input=document, capture_output=True, timeout=GENERATE_S
    )
    assert made.returncode == 0, made.stderr.decode()
    assert made.stdout == (JS / "client/src/openapi.ts").read_bytes()
