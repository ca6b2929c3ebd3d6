"""An emulated provider's inside: accepts tasks, lets them live, ends them, reports them. Knows no wire format."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from safelight.emulators.courier import Courier, Delivery, Letter, retry_delays
from safelight.emulators.faults import PRIVATE_URL, REFUSALS, FaultBook, SubmitFault
from safelight.emulators.media import MediaSpec, Studio, seed_for, short_prompt
from safelight.emulators.settings import TASKS_MAX, UNFINISHED_MAX, WEBHOOK_TIMEOUT_S, EmulatorSettings
from safelight.emulators.shelf import Item, Shelf
from safelight.emulators.task import JSON, Broken, MadeFile, Order, Outcome, Stopped, Succeeded, Task
from safelight.emulators.timeline import Timeline, plan

CANCEL_SIGNAL_S = 0.1  # what a running task takes to notice that it is unwanted

log = logging.getLogger("safelight.emulators")


class Overloaded(Exception):
    """Too many unfinished tasks: nothing was accepted."""


class Dialect(Protocol):
    """How one provider writes its webhooks, and how long it tries."""

    def ended(self, task: Task) -> None:
        """Called once, the moment a task has ended."""
        ...

    def letter(self, task: Task, *, age_s: float = 0.0, forged: bool = False) -> Letter | None:
        """The webhook of an ended task, signed `age_s` ago; None when none is due."""
        ...

    def retries(self, task: Task) -> tuple[float, int]:
        """How long the result is kept, and how often delivery is retried at most."""
        ...


class Engine:
    """One provider's tasks. Everything runs in one event loop; `close` ends all it started."""

    def __init__(self, provider: str, settings: EmulatorSettings, studio: Studio, clock: Callable[[], float]) -> None:
        self.provider = provider
        self.settings = settings
        self.clock = clock
        self.faults = FaultBook(settings.seed)
        self.shelf = Shelf(studio, settings.huge_bytes, clock)
        self.courier = Courier()
        self.requests: deque[JSON] = deque(maxlen=TASKS_MAX)
        self.accepted_total = 0
        self._studio = studio
        self._tasks: dict[str, Task] = {}
        self._ended: deque[str] = deque()
        self._lives: set[asyncio.Task[None]] = set()
        self._overtaken = asyncio.Event()

    # --- what the wire asks ------------------------------------------------------------------------------------

    def accept(self, order: Order, dialect: Dialect) -> Task:
        """From here on the task exists and is billed, whoever hears of it. Raises Overloaded."""
        if len(self._tasks) - len(self._ended) >= UNFINISHED_MAX:
            raise Overloaded
        self.accepted_total += 1
        task = Task(order, self._plan(order), self.accepted_total)
        self._tasks[order.id] = task
        while len(self._tasks) > TASKS_MAX and self._ended:
            self._tasks.pop(self._ended.popleft(), None)
        self.requests.append(
            {
                "provider": self.provider,
                "id": order.id,
                "model": order.model,
                "input": order.input,
                "webhook_url": order.webhook_url,
                "attempt": order.attempt,
                "at": self.clock(),
                "faults": order.faults,
                "number": task.number,
            }
        )
        self._start(self._live(task, dialect))
        return task

    def refusal(self, order: Order) -> SubmitFault | None:
        """The fault by which this order is not accepted now; asked once for each time it comes."""
        fault = order.faults.submit
        if fault not in REFUSALS or not self.faults.spend(f"submit {order.asked}", order.faults.submit_times):
            return None
        return fault

    def find(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)

    def unfinished(self) -> list[Task]:
        return [task for task in self._tasks.values() if task.outcome is None]

    async def cancel(self, task: Task) -> bool:
        """Whether the wish was taken; False = it had ended."""
        if task.faults.cancel == "too_late" and task.outcome is None:
            task.rushed = True
            task.poked.set()
            await task.ended.wait()
        if task.outcome is not None:
            return False
        if task.faults.cancel == "late":
            asyncio.get_running_loop().call_later(self.late_s(task), _stop, task)
        elif task.faults.cancel != "ignored":
            _stop(task)
        return True

    def late_s(self, task: Task) -> float:
        return self.settings.late_s if task.faults.late_s is None else task.faults.late_s

    def slow_s(self, order: Order) -> float:
        return self.settings.slow_s if order.faults.slow_s is None else order.faults.slow_s

    async def close(self) -> None:
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        await self.courier.close()

    # --- a task's life -----------------------------------------------------------------------------------------

    def _start(self, life: Coroutine[Any, Any, None]) -> None:
        running = asyncio.create_task(life)
        self._lives.add(running)
        running.add_done_callback(self._lives.discard)

    def _plan(self, order: Order) -> Timeline:
        usual = self.settings.image_latency_s
        if order.wanted is not None and order.wanted.kind == "video":
            usual = self.settings.video_latency_s
        latency_s = usual * self.settings.time_scale
        if order.faults.latency_s is not None:
            latency_s = order.faults.latency_s
        if order.faults.webhook == "before_answer":
            latency_s = 0.0
        queue_s = order.faults.queue_s
        if queue_s is None:
            queue_s = latency_s * self.settings.queue_share
        return plan(
            self.clock(),
            max(latency_s, queue_s),
            queue_s,
            queue_length=self.settings.queue_length,
            requeued=order.faults.requeue,
        )

    async def _live(self, task: Task, dialect: Dialect) -> None:
        try:
            outcome = await self._work(task)
        except Exception:
            log.exception("emulators.task_failed", extra={"task": task.id})
            outcome = Broken("internal_server_error")
        task.end(outcome, self.clock())
        self._ended.append(task.id)
        dialect.ended(task)
        try:
            await self._report(task, dialect)
        except Exception:
            log.exception("emulators.webhook_failed", extra={"task": task.id})
        finally:
            task.notified.set()

    async def _work(self, task: Task) -> Outcome:
        order, line = task.order, task.timeline
        if order.start_timeout_s is not None and line.accepted_at + order.start_timeout_s < line.starts_at:
            poked = await self._poked_before(task, line.accepted_at + order.start_timeout_s)
            if not poked or not task.cancel_asked:
                return Broken("request_timeout", user_timeout=True)
            return Stopped()
        if await self._poked_before(task, line.starts_at) and task.cancel_asked:
            return Stopped()
        if order.complaint is not None:
            return order.complaint
        reason = order.faults.fail
        if reason is not None and order.faults.fail_times is not None:
            key = f"fail {order.model} {order.prompt}"
            reason = reason if self.faults.spend(key, order.faults.fail_times) else None
        making = None if reason is not None else asyncio.create_task(self._make(task))
        try:
            if await self._poked_before(task, line.planned_end_at) and task.cancel_asked:
                await asyncio.sleep(CANCEL_SIGNAL_S)
                return Stopped()
            if making is None:
                assert reason is not None
                return Broken(reason)
            return await making
        finally:
            if making is not None:
                making.cancel()

    async def _poked_before(self, task: Task, at: float) -> bool:
        """Wait until `at`; True as soon as somebody wants the task to stop or hurry."""
        seconds = at - self.clock()
        if seconds > 0 and not task.poked.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await task.poked.wait()
            except TimeoutError:
                return False
        return task.poked.is_set()

    async def _make(self, task: Task) -> Succeeded:
        order, faults = task.order, task.faults
        wanted = order.wanted
        assert wanted is not None
        given = order.input.get("seed", order.input.get("seeds"))
        seed = given if isinstance(given, int) else seed_for(self.settings.seed, self.provider, task.number)
        if faults.result == "none":
            return Succeeded((), seed)
        files: list[MadeFile] = []
        for index in range(wanted.count):
            spec = MediaSpec(
                wanted.kind,
                short_prompt(order.prompt),
                (seed + index) % 2**32,
                wanted.width,
                wanted.height,
                wanted.duration_s,
                wanted.format,
            )
            data = await self._studio.make(spec)
            lifetime_s = order.extra.get("file_lifetime_s")
            expires_at = None if lifetime_s is None else self.clock() + lifetime_s
            name = self.shelf.put(Item(spec, faults.result, self.slow_s(order), expires_at))
            url = f"{order.public_url}/files/{name}"
            if faults.result == "private_url":
                url = PRIVATE_URL
            elif faults.result == "data_uri" or order.input.get("sync_mode") is True:
                url = f"data:{spec.mime};base64,{base64.b64encode(data).decode()}"
            files.append(MadeFile(url, spec.mime, name, len(data), spec.width, spec.height))
        return Succeeded(tuple(files), seed)

    # --- its webhook -------------------------------------------------------------------------------------------

    async def _report(self, task: Task, dialect: Dialect) -> None:
        fault = task.faults.webhook
        letter = dialect.letter(task)
        if letter is None or fault == "lost":
            return
        if fault == "late":
            await asyncio.sleep(self.late_s(task))
        elif fault == "reordered":
            try:
                async with asyncio.timeout(self.late_s(task)):
                    await self._overtaken.wait()
            except TimeoutError:
                pass  # nobody came after it
        elif fault in ("forged", "stale"):
            # In place of the true one, and once: whoever sends such does not retry.
            false = dialect.letter(task, forged=fault == "forged", age_s=3600.0 if fault == "stale" else 0.0)
            assert false is not None
            await self._post_first(task, false, fault)
            return
        letter = dialect.letter(task)
        assert letter is not None
        if fault == "double":
            first, _ = await asyncio.gather(
                self._post_first(task, letter, "double"), self.courier.post(task, letter, "double")
            )
        else:
            first = await self._post_first(task, letter, fault or "normal")

        def write() -> Letter:
            again = dialect.letter(task)
            assert again is not None
            return again

        lifetime_s, retries_max = dialect.retries(task)
        delays = [each * self.settings.webhook_retry_scale for each in retry_delays(lifetime_s, retries_max)]
        await self.courier.post_until_taken(task, write, first, delays)

    async def _post_first(self, task: Task, letter: Letter, kind: str) -> Delivery:
        delivery = await self.courier.post(task, letter, kind)
        task.notified.set()
        if kind != "reordered":
            self._overtaken.set()
            self._overtaken = asyncio.Event()
        return delivery

    async def told(self, task: Task) -> None:
        """Wait until the webhook's first attempt is over: for the fault `before_answer`."""
        try:
            async with asyncio.timeout(2 * WEBHOOK_TIMEOUT_S):
                await task.notified.wait()
        except TimeoutError:
            log.warning("emulators.webhook_not_before_answer", extra={"task": task.id})


def _stop(task: Task) -> None:
    task.cancel_asked = True
    task.poked.set()
