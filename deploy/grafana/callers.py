"""What callers see: traffic, latency, refusals."""

from __future__ import annotations

from deploy.grafana.query import INSTALL, ONE, Panel, Query, Row, quantiles, rate

ROWS = (
    Row(
        "Is it well?",
        (
            Panel(
                "Failed, of what we had to answer",
                "percentunit",
                "Errors, refusals and missed deadlines of the last five minutes. Budget: 0.1 %.",
                (Query(f"dmvfn:requests_failed:ratio_rate5m{{{INSTALL}}}", "failed {{namespace}}"),),
                "stat",
            ),
            Panel(
                "Slower than a second",
                "percentunit",
                "Share of answers of the last five minutes. Budget: 1 %.",
                (Query(f"dmvfn:requests_slow:ratio_rate5m{{{INSTALL}}}", "slow {{namespace}}"),),
                "stat",
            ),
            Panel(
                "Ready",
                "short",
                "Processes that take work, of those that Prometheus reaches.",
                (
                    Query(f"sum(dmvfn_ready{{{ONE}}})", "ready"),
                    Query(f"sum(up{{{ONE}}})", "reached"),
                ),
                "stat",
            ),
            Panel(
                "Seconds of work waiting",
                "s",
                "Predicted; what the autoscaler looks at.",
                (
                    Query(f"max(dmvfn_predicted_work_seconds{{{ONE}}})", "in a process"),
                    Query(f"max(dmvfn_redis_work_seconds{{{ONE}}})", "in Redis"),
                ),
                "stat",
            ),
        ),
    ),
    Row(
        "Traffic",
        (
            Panel(
                "Requests by outcome",
                "reqps",
                "invalid and cancelled are the callers'; rejected, deadline and error are ours.",
                (Query(rate("dmvfn_requests_total", "outcome"), "{{outcome}}"),),
                stacked=True,
            ),
            Panel(
                "Requests by transport",
                "reqps",
                "Over HTTP, gRPC or the Open Inference Protocol.",
                (Query(rate("dmvfn_requests_total", "transport"), "{{transport}}"),),
                stacked=True,
            ),
            Panel(
                "Frames predicted by size",
                "ops",
                "A request may ask for several steps.",
                (Query(rate("dmvfn_frames_predicted_total", "bucket"), "{{bucket}}"),),
                stacked=True,
            ),
        ),
    ),
    Row(
        "Latency",
        (
            Panel(
                "From arrival to answer",
                "s",
                "All transports together.",
                quantiles("dmvfn_request_duration_seconds", 0.5, 0.9, 0.99),
            ),
            Panel(
                "Mean time by stage",
                "s",
                "decode and encode: codec threads; queue: waiting; route and blocks: the device.",
                (
                    Query(
                        f"{rate('dmvfn_stage_duration_seconds_sum', 'stage')}"
                        f" / {rate('dmvfn_stage_duration_seconds_count', 'stage')}",
                        "{{stage}}",
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "99th percentile by stage",
                "s",
                "The stage that grows first is the bottleneck.",
                (
                    Query(
                        f"histogram_quantile(0.99, {rate('dmvfn_stage_duration_seconds_bucket', 'stage, le')})",
                        "{{stage}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Refusals and errors",
        (
            Panel(
                "Refused on arrival",
                "ops",
                "With the time to wait in the answer.",
                (Query(rate("dmvfn_rejected_total", "reason"), "{{reason}}"),),
                stacked=True,
            ),
            Panel(
                "Deadlines missed",
                "ops",
                "admit: refused at once; queue: expired waiting; late: answered after it.",
                (Query(rate("dmvfn_deadline_missed_total", "phase"), "{{phase}}"),),
                stacked=True,
            ),
            Panel(
                "Callers that left",
                "ops",
                "Their work is dropped where it stands.",
                (Query(rate("dmvfn_cancelled_total", "phase"), "{{phase}}"),),
                stacked=True,
            ),
            Panel(
                "Batches that broke",
                "ops",
                "Items that failed alone after their batch was split, and times the device ran out of memory.",
                (
                    Query(rate("dmvfn_batch_isolated_errors_total"), "isolated"),
                    Query(rate("dmvfn_oom_total"), "out of memory"),
                ),
            ),
        ),
    ),
)
