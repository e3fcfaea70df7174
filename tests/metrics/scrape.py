"""`/metrics` as Prometheus reads it: parsed by its own library, checked by its own tool."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from mailer.metrics import METRICS, Metric
from tests.api.service import Service


@dataclass(frozen=True)
class Scrape:
    """Every value by its name and labels."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def __getitem__(self, name: str) -> float:
        """The sum over all series of that name, as PromQL's `sum` has it."""
        return self.sum(name)

    def sum(self, name: str, **labels: str) -> float:
        """Over the series with these labels among theirs."""
        return sum(
            value
            for (found, theirs), value in self.values.items()
            if found == name and frozenset(labels.items()) <= theirs
        )

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.values}


def parse(text: str) -> Scrape:
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


def scrape(service: Service, **headers: str) -> Scrape:
    answer = service.get("/metrics", **headers)
    assert answer.status == 200, answer.body
    return parse(answer.body.decode())


def series_of(metric: Metric) -> set[str]:
    """The names under which its series appear."""
    if metric.kind == "histogram":
        return {metric.name + ending for ending in ("_bucket", "_count", "_sum")}
    return {metric.name}


ALL_NAMES = {name for metric in METRICS for name in series_of(metric)}


def promtool(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("promtool"), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
