"""Counting that waits: in order, once, and never missed by a scrape."""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry

from service.telemetry.metrics import Metrics


def test_what_is_due_is_counted_once_and_in_order() -> None:
    metrics = Metrics(CollectorRegistry())
    calls: list[str] = []
    metrics.deferred.add(lambda: calls.append("first"))
    metrics.deferred.add(lambda: calls.append("second"))
    assert calls == []
    metrics.deferred.settle()
    metrics.deferred.settle()
    assert calls == ["first", "second"]


def test_a_scrape_counts_what_is_due_first() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.deferred.add(metrics.out_of_memory)
    assert metrics.registry.get_sample_value("dmvfn_oom_total") == 1


def test_a_scrape_waits_for_counting_that_has_begun() -> None:
    metrics = Metrics(CollectorRegistry())
    begun, go_on = threading.Event(), threading.Event()

    def count() -> None:
        begun.set()
        assert go_on.wait(60)
        metrics.out_of_memory()

    metrics.deferred.add(count)
    settling = threading.Thread(target=metrics.deferred.settle)
    settling.start()
    assert begun.wait(60)
    threading.Timer(0.05, go_on.set).start()
    assert metrics.registry.get_sample_value("dmvfn_oom_total") == 1
    settling.join()
