"""Refuses options of Redis' URL with which the service cannot work, and says which setting a server's error is about.

Connects to nothing.
"""

from __future__ import annotations

import os
from typing import Any

import redis
import redis.asyncio.connection

from service.distributed.broker.client import BLOCK_S, connect
from service.settings import PREFIX, Settings, SettingsError

#: Options of redis-py that the service sets itself, since its code depends on them.
OWN_OPTIONS = ("decode_responses", "encoding", "encoding_errors", "legacy_responses", "max_connections")
_URL = f"{PREFIX}REDIS_URL=(hidden)"


def check(settings: Settings) -> None:
    """Raise SettingsError for an option of the URL that redis-py or the service cannot use.

    The same for a file of TLS that is not there, as redis-py opens it at each try and calls the server away.
    """
    if not settings.redis_url:
        return
    try:
        options: dict[str, Any] = dict(redis.asyncio.connection.parse_url(settings.redis_url))
        connection = redis.Redis.from_url(settings.redis_url).connection_pool.make_connection()
    except Exception:  # whatever it is, its message may hold the password
        raise SettingsError(
            f"{_URL}: holds an option, behind the ?, that redis-py does not know or cannot use"
        ) from None
    for name in OWN_OPTIONS:
        if name in options:
            raise SettingsError(f"{_URL}: the option {name} is the service's own to set")
    if (seconds := options.get("socket_timeout")) is not None and seconds <= BLOCK_S:
        raise SettingsError(f"{_URL}: socket_timeout must be above {BLOCK_S:g} s, for which reads wait for news")
    for attribute in ("ca_certs", "certfile", "keyfile"):
        file = getattr(connection, attribute, None)
        if file and not os.access(file, os.R_OK):
            raise SettingsError(f"{_URL}: the file of ssl_{attribute} cannot be read")
    if settings.redis_cluster and settings.redis_sentinels:
        raise SettingsError(f"{PREFIX}REDIS_CLUSTER and {PREFIX}REDIS_SENTINELS are both set: a Cluster has none")
    if settings.redis_cluster and (options.get("db") or "path" in options):
        raise SettingsError(f"{_URL}: a Cluster has neither databases nor a unix socket: give host and port alone")
    try:
        connect(settings)
    except Exception:
        raise SettingsError(
            f"{_URL}: holds an option that redis-py does not take of a Cluster or with Sentinels"
        ) from None


def explain(error: Exception) -> str:
    """Say of an error of Redis which setting mends it, where one does; else what the error says."""
    text = str(error)
    if isinstance(error, redis.exceptions.MovedError):
        return f"the server is one of a Cluster: set {PREFIX}REDIS_CLUSTER=1"
    if "Cluster mode is not enabled" in text or "cluster support disabled" in text:
        return f"the server is of no Cluster: unset {PREFIX}REDIS_CLUSTER"
    if "unknown command" in text and "HELLO" in text:
        return f"the server does not know HELLO: end {PREFIX}REDIS_URL in ?protocol=2"
    return text
