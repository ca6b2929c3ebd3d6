"""What the fan-out's clients say to Safelight: the unmodified protocol, ready-made."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Final, Protocol

from benchmarks.load.crowd import Plan, Way, frame, upgrade
from benchmarks.load.http import Address, request

PAYLOAD: Final = "^" + "x" * 379
"""With its JSON around it, 400 bytes; a server's own envelope comes on top."""
END: Final = b"\r\n\r\n"


class Server(Protocol):
    """What is needed of a running Safelight."""

    address: Address
    key: str

    @property
    def headers(self) -> Mapping[str, str]: ...


def our_plan(server: Server, name: str) -> Plan:
    """Clients of the unmodified protocol, on a topic of that name."""
    topic = f"realtime:{name}"
    join = json.dumps(["1", "1", topic, "phx_join", {"config": {"broadcast": {"self": False, "ack": False}}}])
    said = {"type": "broadcast", "event": "said", "payload": {"id": str(uuid.UUID(int=0)), "text": PAYLOAD[:-50]}}
    way = Way(
        upgrade(server.address, f"/realtime/v1/websocket?apikey={server.key}&vsn=2.0.0"),
        ((END, frame(join)), (b"Subscribed to PostgreSQL", b"")),
    )
    beat = frame('[null,"2","phoenix","heartbeat",{}]')
    return Plan(server.address, way, way, frame(json.dumps(["1", None, topic, "broadcast", said])), beat)


def write_plan(server: Server, project: str, *, has_stream: bool) -> Plan:
    """Clients that follow a project's changes, by socket or by event stream; publishers that write to it over HTTP."""
    body = json.dumps({"name": PAYLOAD[:80]}).encode()
    write = request(server.address, "POST", f"/v1/projects/{project}/shots", body, server.headers)
    plan = our_plan(server, f"task-updates:{project}")
    listen = plan.listen
    if has_stream:
        asked = request(
            server.address, "GET", f"/v1/projects/{project}/changes/stream", None,
            {**server.headers, "Accept": "text/event-stream"},
        )  # fmt: skip
        listen, beat = Way(asked, ((b"event: head", b""),)), b""
    else:
        topic = f"realtime:task-updates:{project}"
        config = {"broadcast": {"events": ["change"]}}
        join = json.dumps(["1", "1", topic, "phx_join", {"config": config}])
        listen, beat = Way(listen.request, ((END, frame(join)), (b"Subscribed to PostgreSQL", b""))), plan.beat
    return Plan(server.address, listen, Way(b"", ()), write, beat)
