"""What the dashboard shows: rows of panels, each with its queries.

`$role` and `$instance` are chosen by the reader; `$__rate_interval` is Grafana's.
"""

from __future__ import annotations

from dataclasses import dataclass

ONE = 'job="dmvfn",role=~"$role",instance=~"$instance"'
RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and what its lines are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph: `unit` as Grafana names it, `text` what a person on call should read from it."""

    title: str
    unit: str
    text: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str = "", more: str = "") -> str:
    """Per second, summed over processes, kept apart by the labels in `by`."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{ONE}{more}}}[{RATE}]))"


def quantiles(metric: str, *which: float) -> tuple[Query, ...]:
    """Quantiles of a histogram over all processes."""
    return tuple(Query(f"histogram_quantile({q}, {rate(metric + '_bucket', 'le')})", f"p{q * 100:g}") for q in which)


ROWS = (
    Row(
        "Is it well?",
        (
            Panel(
                "Failed, of what we had to answer",
                "percentunit",
                "Errors, refusals and missed deadlines of the last five minutes. Budget: 0.1 %.",
                (Query("dmvfn:requests_failed:ratio_rate5m", "failed"),),
                "stat",
            ),
            Panel(
                "Slower than a second",
                "percentunit",
                "Share of answers of the last five minutes. Budget: 1 %.",
                (Query("dmvfn:requests_slow:ratio_rate5m", "slow"),),
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
                (Query(f"max(dmvfn_predicted_work_seconds{{{ONE}}})", "work"),),
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
                "Which door they come through.",
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
                "From door to answer",
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
        "Batches and device",
        (
            Panel(
                "Requests in a batch",
                "short",
                "Near the maximum: the device is the limit. Near one: it keeps up.",
                (
                    Query(
                        f"{rate('dmvfn_batch_size_sum', 'bucket')} / {rate('dmvfn_batch_size_count', 'bucket')}",
                        "mean {{bucket}}",
                    ),
                    *quantiles("dmvfn_batch_size", 0.9),
                ),
            ),
            Panel(
                "What kept batches from growing",
                "ops",
                "empty: nothing else waited; max: DMVFN_MAX_BATCH; slack: a deadline; vram: DMVFN_MAX_BATCH_PIXELS.",
                (Query(rate("dmvfn_batch_limit_total", "reason"), "{{reason}}"),),
                stacked=True,
            ),
            Panel(
                "Device busy",
                "percentunit",
                "Share of time in batches, by process.",
                (Query(f"rate(dmvfn_device_busy_seconds_total{{{ONE}}}[{RATE}])", "{{instance}}"),),
            ),
            Panel(
                "Measured over predicted time",
                "short",
                "The cost model behind deadlines and refusals. 1 is right.",
                quantiles("dmvfn_cost_model_error_ratio", 0.1, 0.5, 0.9),
            ),
        ),
    ),
    Row(
        "Routes and operations",
        (
            Panel(
                "FLOPs a second",
                "flops",
                "2 per multiply-add; convolutions and the routing's linear layer.",
                (
                    Query(rate("dmvfn_model_flops_total"), "executed"),
                    Query(rate("dmvfn_model_flops_saved_total"), "saved"),
                ),
                stacked=True,
            ),
            Panel(
                "Share of the network's work that routes save",
                "percentunit",
                "Against all nine blocks on every frame.",
                (
                    Query(
                        f"{rate('dmvfn_model_flops_saved_total')} / ({rate('dmvfn_model_flops_saved_total')}"
                        f" + {rate('dmvfn_model_flops_total')})",
                        "saved",
                    ),
                ),
            ),
            Panel(
                "Of the device's peak",
                "percentunit",
                "Executed FLOPs over DMVFN_DEVICE_PEAK_FLOPS, where that is set.",
                (
                    Query(
                        f"sum by (instance) (rate(dmvfn_model_flops_total{{{ONE}}}[{RATE}]))"
                        f" / on (instance) group_left () max by (instance) (dmvfn_device_peak_flops{{{ONE}}})",
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                "How often each block runs",
                "percentunit",
                "Of the frames predicted.",
                (
                    Query(
                        f"{rate('dmvfn_block_executions_total', 'block')}"
                        f" / on () group_left () {rate('dmvfn_frames_predicted_total')}",
                        "{{block}}",
                    ),
                ),
            ),
            Panel(
                "Blocks in a route",
                "short",
                "Nine are the whole network.",
                (
                    Query(f"{rate('dmvfn_route_blocks_sum')} / {rate('dmvfn_route_blocks_count')}", "mean"),
                    *quantiles("dmvfn_route_blocks", 0.9),
                ),
            ),
        ),
    ),
    Row(
        "Queue",
        (
            Panel(
                "Waiting",
                "short",
                "Requests, against DMVFN_MAX_QUEUE_ITEMS.",
                (
                    Query(f"sum by (instance) (dmvfn_queue_items{{{ONE}}})", "waiting {{instance}}"),
                    Query(f"sum by (instance) (dmvfn_inflight_requests{{{ONE}}})", "in flight {{instance}}"),
                ),
            ),
            Panel(
                "Bytes waiting",
                "bytes",
                "Frames, against DMVFN_MAX_QUEUE_BYTES.",
                (Query(f"sum by (instance) (dmvfn_queue_bytes{{{ONE}}})", "{{instance}}"),),
            ),
            Panel(
                "Age of the oldest",
                "s",
                "Ten seconds page.",
                (Query(f"max by (instance) (dmvfn_queue_oldest_age_seconds{{{ONE}}})", "{{instance}}"),),
            ),
            Panel(
                "Predicted seconds of work",
                "s",
                "Until all that is in flight is done.",
                (Query(f"max by (instance) (dmvfn_predicted_work_seconds{{{ONE}}})", "{{instance}}"),),
            ),
        ),
    ),
    Row(
        "Refusals and errors",
        (
            Panel(
                "Refused at the door",
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
    Row(
        "Streams",
        (
            Panel(
                "Open streams",
                "short",
                "By transport.",
                (Query(f"sum by (transport) (dmvfn_streams_active{{{ONE}}})", "{{transport}}"),),
            ),
            Panel(
                "Frames that came in",
                "ops",
                "dropped: late under `latest`; scene_cut and reset begin a new pair.",
                (Query(rate("dmvfn_stream_frames_total", "outcome"), "{{outcome}}"),),
                stacked=True,
            ),
            Panel(
                "To the first answer",
                "s",
                "From the opening of a stream.",
                quantiles("dmvfn_first_frame_seconds", 0.5, 0.99),
            ),
        ),
    ),
    Row(
        "Workers and jobs",
        (
            Panel(
                "Ready by role",
                "short",
                "Servers and workers that take work.",
                (Query('sum by (role) (dmvfn_ready{job="dmvfn"})', "{{role}}"),),
            ),
            Panel(
                "Claimed again, refused, given up",
                "ops",
                "redelivered: a worker died; lease lost: one stood still; dead letters: see `python -m service jobs`.",
                (
                    Query(rate("dmvfn_redis_redeliveries_total"), "redelivered"),
                    Query(rate("dmvfn_redis_lease_lost_total"), "lease lost"),
                    Query(rate("dmvfn_redis_dead_letters_total"), "dead letters"),
                ),
            ),
            Panel(
                "Memory of processes",
                "bytes",
                "Resident, by process.",
                (Query(f"process_resident_memory_bytes{{{ONE}}}", "{{instance}}"),),
            ),
            Panel(
                "What runs",
                "short",
                "Version, model and device of each process.",
                (
                    Query(
                        f"count by (version, torch) (dmvfn_build_info{{{ONE}}})", "service {{version}} torch {{torch}}"
                    ),
                    Query(
                        f"count by (version, device, dtype) (dmvfn_model_info{{{ONE}}})",
                        "model {{version}} {{device}} {{dtype}}",
                    ),
                ),
                "table",
            ),
        ),
    ),
)
