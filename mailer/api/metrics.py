"""`/metrics`, for Prometheus: whichever API process is asked tells of all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING, Any, cast

import falcon.asgi

from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.gauges import Sample, samples
from mailer.metrics import METRICS, Kind, Metric
from mailer.store import Store
from mailer.store.measures import Durations

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family


class Metrics:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        backend = self._backend

        def look(store: Store) -> bytes:
            return text(samples(store, backend.settings, backend.plugins, backend.clock))

        resp.data = await backend.lister.run(look)
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"


def text(found: Sequence[Sample]) -> bytes:
    """In Prometheus's text format."""
    # Here, since nobody may ever ask.
    from prometheus_client.exposition import generate_latest

    return generate_latest(_Collected(found))


class _Collected:
    """prometheus_client's `Collector` of what was found."""

    def __init__(self, found: Sequence[Sample]) -> None:
        self._found = found

    def collect(self) -> Iterator[Family]:
        place = {metric: number for number, metric in enumerate(METRICS)}
        ordered = sorted(self._found, key=lambda sample: (place[sample.metric], sample.labels))
        for metric, of_metric in groupby(ordered, key=lambda sample: sample.metric):
            yield _family(metric, of_metric)


def _family(metric: Metric, found: Iterator[Sample]) -> Family:
    from prometheus_client import core

    kinds: dict[Kind, Callable[..., Any]] = {
        Kind.COUNTER: core.CounterMetricFamily,
        Kind.GAUGE: core.GaugeMetricFamily,
        Kind.HISTOGRAM: core.HistogramMetricFamily,
    }
    family = kinds[metric.kind](metric.name, metric.meaning, labels=metric.labels)
    for sample in found:
        if isinstance(sample.value, Durations):
            buckets = [(_bound(up_to_s), number) for up_to_s, number in sample.value.up_to_s]
            family.add_metric(sample.labels, buckets, sample.value.sum_s)
        else:
            family.add_metric(sample.labels, sample.value)
    return cast("Family", family)


def _bound(up_to_s: float) -> str:
    return "+Inf" if up_to_s == inf else str(up_to_s)
