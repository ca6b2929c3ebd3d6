"""What Prometheus reads (D3). One `Metrics` a process, with a registry of its own, handed to whoever counts.

Counting is an addition in memory. What would cost a query or belongs to somebody else (a queue's length, a room's own
counters) is read when somebody scrapes: see `read_at_scrape` and scrape.py. All names begin with `safelight_`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log: Final = structlog.get_logger("observe")

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LABELS_MAX: Final = 500
"""Values of one label that comes from outside; the rest is counted as `other`, because each is a series for ever."""
TRANSPORTS: Final = frozenset({"poll", "sse", "socket", "long_poll", "tab"})
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})

_REQUEST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_COMMITTED_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_VISIBLE_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 7, 10, 30, 60, 300)  # the promises, and past them

Reading = float | Mapping[str, float] | None
"""A figure, or one per value of a label, or (None) nobody knows: then there is no such line."""


@dataclass(frozen=True, slots=True)
class _Reader:
    kind: Literal["counter", "gauge"]
    name: str
    help: str
    read: Callable[[], Reading]
    label: str | None


class Metrics:
    """Count by its methods; `render()` for `/metrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.ledger_mismatch: int | None = None
        """What the last audit of the ledger found; None before the first. Must be 0 (C1)."""
        self._readers: dict[str, _Reader] = {}
        self._refreshers: list[Callable[[], Awaitable[None]]] = []
        self._routes = _Bounded()
        self._providers = _Bounded()
        self._models = _Bounded()

        counter, histogram = self._counter, self._histogram
        self._http = counter("http_requests", "Requests answered", "route", "method", "status")
        self._http_s = histogram("http_request_seconds", "Until the answer begins", _REQUEST_S, "route", "method")
        self._refused = counter("credentials_refused", "Keys, tokens and cookies turned away", "reason")
        self._submitted = counter("jobs_submitted", "Jobs accepted", "provider", "model")
        self._ended = counter("jobs_ended", "Jobs that reached an end", "provider", "stage")
        self._webhooks = counter("webhooks_received", "Webhooks by what became of them", "provider", "outcome")
        self._committed_s = histogram(
            "webhook_to_committed_seconds", "From a webhook's arrival to its result's commit", _COMMITTED_S
        )
        self._provider = counter("provider_requests", "Requests to providers", "provider", "op", "outcome")
        self._delivered = counter("changes_delivered", "Changes sent to clients", "transport")
        self._visible_s = histogram("commit_to_painted_seconds", "As browsers saw it (D2)", _VISIBLE_S, "transport")
        self._followers = Gauge(
            "feed_followers", "Open streams of changes", ["transport"], namespace="safelight", registry=self.registry
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(_Readings(self._readers))
        self.read_at_scrape(
            "gauge", "ledger_mismatch", "Sums in the ledger that do not add up", lambda: self.ledger_mismatch
        )

    # -- counting

    def http(self, route: str, method: str, status: int, seconds: float) -> None:
        """`route` is the template (`/v1/jobs/{job}`), never the path: that would be a series for every job."""
        route = self._routes.admit(route)
        method = method if method in METHODS else "other"
        self._http.labels(route, method, status).inc()
        self._http_s.labels(route, method).observe(seconds)

    def credential_refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def job_submitted(self, provider: str, model: str) -> None:
        self._submitted.labels(self._providers.admit(provider), self._models.admit(model)).inc()

    def job_ended(self, provider: str, stage: str) -> None:
        self._ended.labels(self._providers.admit(provider), stage).inc()

    def webhook(self, provider: str, outcome: str) -> None:
        """A provider's name in a path is anybody's word until its webhook was proven and `stored`."""
        known = self._providers.admit(provider) if outcome == "stored" else self._providers.known(provider)
        self._webhooks.labels(known, outcome).inc()

    def webhook_committed(self, seconds: float) -> None:
        self._committed_s.observe(seconds)

    def provider_request(self, provider: str, op: str, outcome: str) -> None:
        """`op`: submit, inspect, cancel, …; `outcome`: ok or the error's kind."""
        self._provider.labels(self._providers.admit(provider), op, outcome).inc()

    def changes_delivered(self, transport: str, count: int) -> None:
        self._delivered.labels(_transport(transport)).inc(count)

    def visible(self, transport: str, spans_ms: Sequence[float]) -> None:
        """Times from commit to paint that a browser reports; what it says of itself is bounded, not believed."""
        observed = self._visible_s.labels(_transport(transport))
        for span_ms in spans_ms:
            observed.observe(max(span_ms, 0.0) / 1000)

    @contextmanager
    def following(self, transport: str) -> Generator[None]:
        """Somebody follows the changes for as long as this is open."""
        self.follows(transport, 1)
        try:
            yield
        finally:
            self.follows(transport, -1)

    def follows(self, transport: str, more: int) -> None:
        """So many more follow the changes; for those who come and go without a block of code around it."""
        self._followers.labels(_transport(transport)).inc(more)

    # -- reading

    def read_at_scrape(
        self,
        kind: Literal["counter", "gauge"],
        name: str,
        help: str,
        read: Callable[[], Reading],
        *,
        label: str | None = None,
    ) -> None:
        """Ask `read()` at every scrape, as for the counters that a room keeps itself:

        `metrics.read_at_scrape("counter", "feed_gaps", "Followers told to catch up", lambda: feed.stats.gaps)`.
        With `label` it gives a mapping from that label's values. Raises ValueError for a name that is taken.
        """
        if name in self._readers:
            raise ValueError(f"there is a {name} already")
        self._readers[name] = _Reader(kind, name, help, read, label)

    def before_scrape(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """Await `refresh()` before every scrape. It limits itself in time and frequency, and does not raise."""
        self._refreshers.append(refresh)

    async def render(self) -> bytes:
        """The text for Prometheus."""
        for refresh in self._refreshers:
            await refresh()
        return generate_latest(self.registry)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, labels, namespace="safelight", registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, help, labels, namespace="safelight", buckets=buckets, registry=self.registry)


class _Bounded:
    """The values that a label has had; no more than so many."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def admit(self, value: str) -> str:
        if value not in self._seen:
            if len(self._seen) >= LABELS_MAX:
                return "other"
            self._seen.add(value)
        return value

    def known(self, value: str) -> str:
        return value if value in self._seen else "other"


class _Readings(Collector):
    """The figures that are asked for at a scrape. One reader that fails leaves out its own line only."""

    def __init__(self, readers: Mapping[str, _Reader]) -> None:
        self._readers = readers

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        for reader in list(self._readers.values()):
            try:
                reading = reader.read()
            except Exception:
                log.exception("metrics.unreadable", name=reader.name)
                continue
            if reading is not None:
                yield _family(reader, reading)


def _family(reader: _Reader, reading: float | Mapping[str, float]) -> Metric:
    kind = CounterMetricFamily if reader.kind == "counter" else GaugeMetricFamily
    family = kind(f"safelight_{reader.name}", reader.help, labels=[reader.label] if reader.label else [])
    if isinstance(reading, Mapping):
        for value, figure in reading.items():
            family.add_metric([value], figure)
    else:
        family.add_metric([], reading)
    return family


def _transport(name: str) -> str:
    return name if name in TRANSPORTS else "other"
