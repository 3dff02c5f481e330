"""What Prometheus reads: counts and times, never of whom."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from gainakt.service.students import Students

TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The counts of one process since its start."""

    def __init__(self, students: Students) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "gainakt_requests", "Requests.", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "gainakt_request_seconds", "Time to a reply.", ("route",), registry=self.registry
        )
        self.answers = Counter("gainakt_answers", "New answers stored.", registry=self.registry)
        states = Gauge("gainakt_states", "Students' states in memory.", registry=self.registry)
        states.set_function(lambda: len(students))

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request; `route` is the address as it is declared, without what was asked."""
        self.requests.labels(route, method, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all of it in Prometheus' format."""
        return generate_latest(self.registry)
