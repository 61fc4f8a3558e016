"""What the device does: batches, routes, operations, and what waits for it."""

from __future__ import annotations

from deploy.grafana.query import ONE, RATE, Panel, Query, Row, quantiles, rate

ROWS = (
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
        "Queues in processes",
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
                "Age of the oldest, and work predicted",
                "s",
                "Ten seconds of age of a call (live) page.",
                (
                    Query(
                        f"max by (instance, priority) (dmvfn_queue_oldest_age_seconds{{{ONE}}})",
                        "age {{priority}} {{instance}}",
                    ),
                    Query(f"max by (instance) (dmvfn_predicted_work_seconds{{{ONE}}})", "work {{instance}}"),
                ),
            ),
        ),
    ),
)
