"""What lasts longer than a request or lies outside a process: streams, Redis, workers."""

from __future__ import annotations

from deploy.grafana.query import INSTALL, ONE, Panel, Query, Row, quantiles, rate

#: Every front end reports the same queue, and each install has its own.
QUEUE, OF_QUEUE = "max by (namespace, queue)", "{{queue}} {{namespace}}"

ROWS = (
    Row(
        "Queue in Redis",
        (
            Panel(
                "Items",
                "short",
                "Queued wait for a worker; leased are with one. Every front end reports the same queue.",
                (
                    Query(
                        f"{QUEUE} (dmvfn_redis_queue_items{{{ONE}}})",
                        "queued " + OF_QUEUE,
                    ),
                    Query(
                        f"{QUEUE} (dmvfn_redis_leased_items{{{ONE}}})",
                        "leased " + OF_QUEUE,
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Bytes of frames",
                "bytes",
                "Against Redis' maxmemory.",
                (Query(f"{QUEUE} (dmvfn_redis_queue_bytes{{{ONE}}})", OF_QUEUE),),
            ),
            Panel(
                "Age of the oldest, and work predicted",
                "s",
                "A minute of age of a call (live) pages; work is what KEDA scales on.",
                (
                    Query(
                        f"max by (namespace, queue, priority) (dmvfn_redis_oldest_age_seconds{{{ONE}}})",
                        "age {{priority}} " + OF_QUEUE,
                    ),
                    Query(f"{QUEUE} (dmvfn_redis_work_seconds{{{ONE}}})", "work " + OF_QUEUE),
                ),
            ),
            Panel(
                "Workers alive, dead letters kept",
                "short",
                "As Redis knows them.",
                (
                    Query(f"{QUEUE} (dmvfn_redis_workers{{{ONE}}})", "workers " + OF_QUEUE),
                    Query(
                        f"{QUEUE} (dmvfn_redis_dead_letters_kept{{{ONE}}})",
                        "dead letters " + OF_QUEUE,
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Clips over Redis",
        (
            Panel(
                "Clips",
                "short",
                "Queued wait for a front end with a place; one whose maker went away waits, too.",
                (
                    Query(f"{QUEUE} (dmvfn_redis_clips_queued{{{ONE}}})", "queued " + OF_QUEUE),
                    Query(f"{QUEUE} (dmvfn_redis_clips_running{{{ONE}}})", "being made " + OF_QUEUE),
                ),
                stacked=True,
            ),
            Panel(
                "Frames not written yet, ranges kept",
                "short",
                "Ranges are predicted frames, for whoever takes a clip over.",
                (
                    Query(f"{QUEUE} (dmvfn_redis_clip_frames_waiting{{{ONE}}})", "frames " + OF_QUEUE),
                    Query(f"{QUEUE} (dmvfn_redis_clip_ranges{{{ONE}}})", "ranges " + OF_QUEUE),
                ),
            ),
            Panel(
                "Bytes of clips and results",
                "bytes",
                "In Redis, or in the object store.",
                (Query(f"{QUEUE} (dmvfn_redis_clip_bytes{{{ONE}}})", OF_QUEUE),),
            ),
            Panel(
                "Wait of the first in the line",
                "s",
                "Turns are by caller: another's later clip may go first.",
                (Query(f"{QUEUE} (dmvfn_redis_clip_oldest_wait_seconds{{{ONE}}})", OF_QUEUE),),
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
                (Query(f'sum by (role) (dmvfn_ready{{job="dmvfn",{INSTALL}}})', "{{role}}"),),
            ),
            Panel(
                "Claimed again, refused, given up",
                "ops",
                "lapsed: a worker died; handed_back: one left; lease lost: one stood still; dead letters: see `jobs`.",
                (
                    Query(rate("dmvfn_redis_redeliveries_total", "why"), "{{why}}"),
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
