"""The room that FastAPI's own documentation shows, with sends side by side: what people write first."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()
listeners: set[WebSocket] = set()


@app.get("/healthz")
async def healthz() -> str:
    return "ok"


@app.websocket("/sub")
async def listen(websocket: WebSocket) -> None:
    await websocket.accept()
    listeners.add(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        listeners.discard(websocket)


@app.websocket("/pub")
async def publish(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            text = await websocket.receive_text()
            await asyncio.gather(*(each.send_text(text) for each in listeners), return_exceptions=True)
    except WebSocketDisconnect:
        return
