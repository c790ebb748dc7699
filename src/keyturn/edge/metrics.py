"""A server's figures in the text format of Prometheus.

Keeps: names and labels, all of bounded variety (routes are templates, codes are the catalogue's). Leaves to others: when to
count. Figures that are looked up when they are asked for are given to :meth:`Metrics.render`.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from keyturn.core.errors import CATALOGUE

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
disable_created_metrics()  # type: ignore[no-untyped-call]  # The time of each first count: as many lines again, of no use.
_SIGNING = (0.00005, 0.0001, 0.00025, 0.0005)  # A signature here takes less than the quickest request.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The figures of one server process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "keyturn_requests", "Requests answered.", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "keyturn_request_seconds",
            "Time from request to answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._problems = Counter(
            "keyturn_problems",
            "Problems answered, by code of the catalogue.",
            ("route", "code"),
            registry=self._registry,
        )
        self._outcomes = Counter(
            "keyturn_exchanges", "What became of documents whose proofs hold.", ("outcome",), registry=self._registry
        )
        self._unkept = Counter(
            "keyturn_incidents_unkept", "Problems that were not kept for `find`: too many, or no disk.",
            registry=self._registry,
        )  # fmt: skip
        self._signing = Histogram(
            "keyturn_signer_seconds", "Time a signature took, waiting for the signer included.",
            buckets=(*_SIGNING, *_BUCKETS), registry=self._registry,
        )  # fmt: skip
        self._unsigned = Counter(
            "keyturn_signer_failures", "Signatures that were asked for and not made.", registry=self._registry
        )
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._became: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        found = self._answered.get((route, method, status))
        if found is None:  # Looking labels up costs more than counting.
            found = self._requests.labels(route, method, str(status)), self._seconds.labels(route)
            self._answered[route, method, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def problem(self, route: str, code: str) -> None:
        self._problems.labels(route, code if code in CATALOGUE else "other").inc()

    def exchange(self, outcome: str) -> None:
        """``new``, ``same``, ``moved``, ``released`` or ``refused``."""
        found = self._became.get(outcome)
        if found is None:
            found = self._became[outcome] = self._outcomes.labels(outcome)
        found.inc()

    def unkept(self) -> None:
        self._unkept.inc()

    def signature(self, seconds: float | None) -> None:
        """One signature and the seconds it took, or ``None`` for one that was not made."""
        if seconds is None:
            self._unsigned.inc()
        else:
            self._signing.observe(seconds)

    def render(self, gauges: Mapping[tuple[str, str], Mapping[str, float]]) -> bytes:
        """The figures as text; ``gauges`` by (name, help), each with its value per label ``of`` (or one for ``""``)."""
        for (name, told), values in gauges.items():
            labelled = tuple(values) != ("",)
            if name not in self._gauges:
                self._gauges[name] = Gauge(name, told, ("of",) if labelled else (), registry=self._registry)
            for label, value in values.items():
                (self._gauges[name].labels(label) if labelled else self._gauges[name]).set(value)
        return generate_latest(self._registry)
