"""Names the work of ours that nobody awaits: a closed set, which labels logs and metrics."""

from __future__ import annotations

import enum


class Background(enum.StrEnum):
    """Work of ours that nobody awaits; `service.supervision` runs it."""

    HEALTH_WATCH = "health_watch"  #: telling watchers of gRPC health
    REDIS_PULSE = "redis_pulse"  #: saying that a front end lives
    REDIS_LOOK = "redis_look"  #: looking at the queue and its workers
    REDIS_LISTENER = "redis_listener"
    REDIS_CALL = "redis_call"  #: fetching an answer, withdrawing a call
    WEBHOOKS = "webhooks"  #: looking for due ones
    WEBHOOK = "webhook"  #: one delivery
    CLIP_MAKERS = "clip_makers"  #: taking clips of a queue, and making them
    CLIP_SWEEP = "clip_sweep"  #: removing what clips and jobs left in a store elsewhere
    API_KEYS = "api_keys"  #: following the file of API keys
    LARGE_PAGES = "large_pages"  #: moving memory after a start
    WORKER_CLAIMS = "worker_claims"
    WORKER_BEAT = "worker_beat"
    WORKER_WITHDRAWALS = "worker_withdrawals"
    WORKER_STORE = "worker_store"
    WORKER_LEASES = "worker_leases"
