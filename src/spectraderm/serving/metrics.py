"""What a server counts: requests, photos and seconds. The Prometheus client's door."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from spectraderm.serving.pool import Pool

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


class Metrics:
    """One server's; says nothing of who asked or of any single photo."""

    def __init__(self, pool: Pool) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("spectraderm_requests", "By HTTP status.", ["status"], registry=self._registry)
        self._photos = Counter("spectraderm_photos", "By verdict, or by error.", ["outcome"], registry=self._registry)
        self._seconds = Histogram(
            "spectraderm_request_seconds", "Of requests with photos.", buckets=_SECONDS, registry=self._registry
        )
        self.in_flight = Gauge("spectraderm_requests_in_flight", "Being answered.", registry=self._registry)
        waiting = Gauge("spectraderm_photos_waiting", "In the queue.", registry=self._registry)
        waiting.set_function(lambda: pool.waiting)
        ready = Gauge("spectraderm_ready", "1 where photos are answered.", registry=self._registry)
        ready.set_function(lambda: pool.ready)

    def count(self, status: int, outcomes: list[str], seconds: float) -> None:
        """Count an answered request; `outcomes` has a verdict or an error's type for each of its photos."""
        self._requests.labels(str(status)).inc()
        for outcome in outcomes:
            self._photos.labels(outcome).inc()
        if outcomes:
            self._seconds.observe(seconds)

    def page(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
