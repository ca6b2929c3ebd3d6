"""The webhook endpoint and the sockets, one uvicorn process."""

import os

import socketio
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.usual.tasks import store_result


class Output(BaseModel):
    key: str
    mime: str
    bytes: int
    width: int
    height: int


class Webhook(BaseModel):
    task_id: str
    status: str
    outputs: list[Output]


api = FastAPI()


@api.post("/webhook")
async def webhook(hook: Webhook) -> dict[str, bool]:
    # Enqueued on the loop: a round trip to the local Redis is cheaper than a hop to a thread and back.
    output = hook.outputs[0]
    store_result.delay(hook.task_id, hook.status, output.key, output.mime, output.bytes, output.width, output.height)
    return {"ok": True}


@api.get("/healthz")
async def healthz() -> dict[str, bool]:
    return {"ok": True}


sockets = socketio.AsyncServer(
    async_mode="asgi", client_manager=socketio.AsyncRedisManager(os.environ["BENCH_REDIS_URL"])
)
app = socketio.ASGIApp(sockets, api)
