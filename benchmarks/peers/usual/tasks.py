"""The worker: one row, one message to everybody's socket."""

import asyncio
import os

import asyncpg
import socketio
import uvloop
from celery import Celery
from celery.signals import worker_process_init

from benchmarks.peers.usual.schema import INSERT

REDIS = os.environ["BENCH_REDIS_URL"]

app = Celery("usual", broker=REDIS)
app.conf.update(
    task_ignore_result=True,  # nobody reads it: no second write to Redis
    worker_prefetch_multiplier=4,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


class Process:
    """What each worker process keeps open: one connection to PostgreSQL, one to Redis."""

    loop: asyncio.AbstractEventLoop
    db: asyncpg.Connection
    sockets: socketio.RedisManager


@worker_process_init.connect
def open_connections(**_: object) -> None:
    Process.loop = uvloop.new_event_loop()
    Process.db = Process.loop.run_until_complete(asyncpg.connect(os.environ["BENCH_DATABASE_URL"]))
    Process.sockets = socketio.RedisManager(REDIS, write_only=True)


@app.task(name="store_result")
def store_result(task_id: str, status: str, key: str, mime: str, size: int, width: int, height: int) -> None:
    Process.loop.run_until_complete(Process.db.execute(INSERT, task_id, status, key, mime, size, width, height))
    row = {"id": task_id, "status": status, "key": key, "mime": mime, "bytes": size, "width": width, "height": height}
    Process.sockets.emit("result", row)
