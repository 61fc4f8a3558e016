"""Settings: one frozen object from a mapping of DMVFN_* variables; nothing else reads the environment.

`docs/operations.md` holds the same table; a test compares the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from service import addresses, weights_reference
from service.core.api_keys import pairs_of
from service.key_file import usable_key_file
from service.setting_values import device as _device
from service.setting_values import flag as _flag
from service.setting_values import name as _name
from service.setting_values import number as _number
from service.setting_values import one_of as _one_of
from service.setting_values import sizes as _sizes
from service.setting_values import whole as _whole
from service.weights_reference import ArtifactWeights, RemoteWeights, existing

PREFIX = "DMVFN_"
#: A gRPC message is in memory so often while it is read: grpcio joins slices into a bytearray, then into bytes.
MESSAGE_COPIES = 3
#: A message has at most one of so many parts of the bytes that messages on their way in may take: two while its copies
#: are made, one while it arrives, one for what streams have sent of theirs.
MESSAGE_PARTS = MESSAGE_COPIES + 1


class SettingsError(ValueError):
    """A variable has a value that cannot be used; the message names the variable."""


def _set(default: Any, parse: Callable[[str], Any], help_: str, *, secret: bool = False, hidden: bool = False) -> Any:
    """Define a setting. `secret`: NAME_FILE may name a file that holds it. `hidden`, as every secret: in no message."""
    metadata = {"parse": parse, "help": help_, "secret": secret, "hidden": hidden or secret}
    return dataclasses.field(default=default, metadata=metadata)


def _text_of(name: str, field: dataclasses.Field[Any], environment: Mapping[str, str]) -> str:
    """Return the variable's text, or that of the file NAME_FILE names; a password keeps its spaces, no line's end."""
    text, file = environment.get(name, ""), environment.get(f"{name}_FILE", "").strip()
    if field.metadata["secret"] and file and field.name != "api_keys":  # its file is a setting, and followed
        if text.strip():
            raise SettingsError(f"{name} and {name}_FILE are both set: give one")
        try:
            text = Path(file).read_text(encoding="utf-8-sig")  # Windows' editors begin with a mark
        except (OSError, ValueError):
            raise SettingsError(f"{name}_FILE={file!r}: cannot be read as text") from None
    return text.rstrip("\r\n") if field.metadata["parse"] is str and field.metadata["secret"] else text.strip()


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured. Defaults suit a laptop."""

    # Listening
    http_host: str = _set(
        "127.0.0.1",
        str,
        "Address HTTP listens on; 0.0.0.0 for every interface of IPv4, `::` for those of IPv6 as well.",
    )
    http_port: int = _set(8000, _whole(0, 65535), "HTTP port; 0 picks a free one.")
    grpc_host: str = _set("127.0.0.1", str, "Address gRPC listens on.")
    grpc_port: int = _set(8001, _whole(0, 65535), "gRPC port; 0 picks a free one.")
    grpc_enabled: bool = _set(True, _flag, "Serve gRPC at all.")
    tls_cert: Path | None = _set(
        None, existing, "PEM certificate chain; with `tls_key`, both edges speak TLS. Re-read when replaced."
    )
    tls_key: Path | None = _set(None, existing, "PEM private key of `tls_cert`.")
    tls_client_ca: Path | None = _set(
        None, existing, "PEM bundle; clients must show a certificate signed by it. Re-read when replaced."
    )
    health_port: int = _set(
        0, _whole(0, 65535), "Port of health and metrics in plain HTTP, for probes where TLS is on; 0: none."
    )
    metrics_port: int = _set(
        0,
        _whole(0, 65535),
        "Port of `/metrics`, which is then on no other; may be `health_port`'s. 0: none of its own.",
    )
    metrics_need_key: bool = _set(
        False, _flag, "`/metrics` on HTTP's port takes a key with the scope `metrics`, where keys are set."
    )
    api_keys: tuple[tuple[str, str], ...] = _set(
        (),
        pairs_of,
        "`name:key` pairs, separated by commas or lines. Any given: requests need `Authorization: Bearer KEY`.",
        secret=True,
    )
    api_keys_file: Path | None = _set(
        None,
        usable_key_file,
        "File of API keys instead, with scopes and budgets; re-read when replaced.",
    )
    allowed_hosts: tuple[str, ...] = _set(
        (),
        addresses.host_names,
        "Names that `Host` may have, `*.example.com` for all below one, `*` for any; empty: any, "
        "but where HTTP listens on loopback that machine's own only.",
    )
    trusted_proxies: tuple[str, ...] = _set((), addresses.networks, "Proxies whose `X-Forwarded-` fields count.")
    cors_origins: tuple[str, ...] = _set((), addresses.words_of, "Origins browsers may call from, separated by commas.")

    # The network
    weights: Path | RemoteWeights | ArtifactWeights | None = _set(
        None,
        weights_reference.parse,
        "Checkpoint to serve (.safetensors or a published .pkl), a directory of them, one a version, or an address: "
        "`https://HOST/PATH` or `s3://BUCKET/KEY` and `#sha256=DIGEST`, `oci://HOST/NAME@sha256:DIGEST`; empty: ours.",
    )
    registry_logins: Path | None = _set(None, existing, "Docker's `config.json` with the login of `oci://`'s registry.")
    weights_cache: Path | None = _set(None, Path, "Directory of downloaded weights; empty: `~/.cache/dmvfn`.")
    versions: tuple[str, ...] = _set(
        (),
        weights_reference.version_names,
        "Versions of the directory `weights` to load at the start, the first as the default; empty: the newest.",
    )
    max_versions: int = _set(2, _whole(1, 64), "Most versions loaded at once; each has its network on the device.")
    model_control: tuple[str, ...] = _set(
        (),
        addresses.words_of,
        "Names of API keys that may load and unload versions beside those with the scope `control`; `*`: every caller.",
    )
    head: Path | None = _set(
        None, existing, "Mixing head by which methods `flow` and `mix` weigh (.safetensors); empty: ours."
    )
    default_method: str = _set(
        "auto", _one_of("auto", "dmvfn", "flow", "mix"), "What predicts where no method is named; `auto`: the weights'."
    )
    device: str = _set("auto", _device, "`auto`, `cpu`, `cuda` or `cuda:N`.")
    dtype: str = _set(
        "float32",
        _one_of("float32", "bfloat16", "float16"),
        "Precision of the convolutions; flow stays float32. On a CPU `bfloat16` is quicker by AMX, or on an AMD.",
    )
    threads: int = _set(0, _whole(0, 1024), "CPU threads of the network; 0: one per core this process may use.")
    warmup_sizes: tuple[tuple[int, int], ...] = _set(
        ((256, 448),), _sizes, "Frame sizes (height x width) run once before ready."
    )

    # Batching and admission
    max_batch: int = _set(8, _whole(1, 1024), "Most requests in one batch.")
    max_batch_pixels: int = _set(
        8 * 1088 * 1920, _whole(256, 2**40), "Most padded pixels in one batch (the device's memory bounds it)."
    )
    max_queue_items: int = _set(
        256, _whole(1, 10**6), "Most requests waiting; over Redis calls and predictions of jobs are counted apart."
    )
    max_queue_bytes: int = _set(2**30, _whole(1, 2**42), "Most bytes of frames waiting.")
    max_inflight_bytes: int = _set(
        0,
        _whole(0, 2**42),
        "Most bytes that requests in flight hold together: bodies, frames, unread answers; 0: as `max_queue_bytes`. "
        "gRPC messages on their way in may take as much again, one of them a quarter; half a message is reserve.",
    )
    max_client_items: int = _set(
        0,
        _whole(0, 10**6),
        "Most requests one API key (without keys: address) may have in flight; jobs in Redis counted apart; 0: no "
        "limit.",
    )
    default_deadline_ms: int = _set(30_000, _whole(1, 10**9), "Deadline of a request that states none.")
    max_deadline_ms: int = _set(600_000, _whole(1, 10**9), "Longest deadline a caller may ask for.")
    max_steps: int = _set(16, _whole(1, 1024), "Most future frames in one request.")

    # Engine
    watchdog_s: float = _set(
        120.0,
        _number(0, 86400),
        "Seconds without a sign of life from a busy device after which it is taken for hung; 0: never.",
    )

    # What is accepted
    max_body_bytes: int = _set(64 * 2**20, _whole(1024, 2**40), "Largest request body, and gRPC message, up to 2 GiB.")
    max_pixels: int = _set(4096 * 2304, _whole(256, 2**32), "Most pixels in one frame.")
    min_side: int = _set(16, _whole(1, 4096), "Shortest side of a frame, pixels.")
    max_side: int = _set(8192, _whole(16, 65536), "Longest side of a frame, pixels.")
    max_aspect: float = _set(16.0, _number(1, 1000), "Largest ratio of a frame's sides.")
    max_video_bytes: int = _set(
        768 * 2**20, _whole(2**16, 2**42), "Most bytes of disk that clips take, those sent and those made; one: half."
    )
    body_timeout_s: float = _set(60.0, _number(0.1, 3600), "Seconds in which a request's body must have arrived.")
    codec_threads: int = _set(0, _whole(0, 256), "Threads that decode and encode images; 0: one per core.")

    # Streams
    max_streams: int = _set(256, _whole(1, 10**6), "Most live streams open at once, gRPC and WebSocket together.")
    max_client_streams: int = _set(0, _whole(0, 10**6), "Most live streams of one API key; 0: no limit of its own.")
    max_stream_bytes: int = _set(
        2**30, _whole(1, 2**42), "Most bytes of last frames that all streams keep, and of answers they have not read."
    )
    stream_idle_s: float = _set(300.0, _number(0, 86_400), "A stream without a frame for so long is ended; 0: never.")
    grpc_keepalive_s: float = _set(60.0, _number(1, 86_400), "Seconds between pings on a gRPC connection.")

    # Redis and jobs
    engine: str = _set(
        "local", _one_of("local", "redis"), "`local`: predict in this process; `redis`: hand requests to workers."
    )
    redis_url: str = _set("", addresses.redis_url, "`redis://`, `rediss://` (TLS) or `unix://` URL.", secret=True)
    redis_username: str = _set("", str, "ACL user; empty: the URL's, or `default`.")
    redis_password: str = _set("", str, "Its password, as it is (in the URL it must be percent-encoded).", secret=True)
    redis_queue: str = _set("dmvfn", _name, "Name of the queue; all its keys share one hash tag, so one Cluster slot.")
    redis_cluster: bool = _set(False, _flag, "`redis_url` is a node of a Redis Cluster.")
    redis_sentinels: tuple[str, ...] = _set(
        (), addresses.sentinels, "Sentinels, host:port separated by commas; they name the host.", hidden=True
    )
    redis_sentinel_service: str = _set("dmvfn", str, "Name of the primary that the Sentinels watch.")
    redis_sentinel_username: str = _set("", str, "ACL user of the Sentinels; empty: `default`.")
    redis_sentinel_password: str = _set("", str, "Its password, where they ask for one.", secret=True)
    redis_sentinel_tls: bool = _set(False, _flag, "The Sentinels speak TLS, by the `ssl_…` options of the URL.")
    lease_ms: int = _set(15_000, _whole(100, 10**7), "Silence after which a worker's jobs go to another one.")
    max_run_s: float = _set(300.0, _number(0.1, 86_400), "Longest run of one job; its lease then ends (a hung device).")
    max_deliveries: int = _set(4, _whole(1, 100), "Runs of a job, all cut short by deaths, before it is given up.")
    job_ttl_s: float = _set(86_400.0, _number(1, 10**8), "Seconds a finished job's state and results are kept.")
    max_result_bytes: int = _set(
        2**30,
        _whole(1, 2**42),
        "Most bytes of jobs' results in Redis, those to come included; at most half of its `maxmemory`.",
    )
    max_answer_bytes: int = _set(
        500_000_000,
        _whole(1, 2**42),
        "Most bytes of one prediction's frames and maps over Redis; at most what its `proto-max-bulk-len` allows.",
    )
    dead_letter_ttl_s: float = _set(604_800.0, _number(1, 10**8), "Seconds a dead letter's frames are kept.")
    max_job_frames: int = _set(256, _whole(2, 100_000), "Most frames in one job.")
    webhook_prefixes: tuple[str, ...] = _set(
        (), addresses.prefixes, "URL prefixes that webhooks may go to; empty: no webhooks.", hidden=True
    )
    webhook_secret: str = _set("", str, "Key of the webhooks' HMAC-SHA256 signature.", secret=True)
    object_store: str = _set(
        "",
        addresses.object_store,
        "Where clips and large frames and results of jobs over Redis are: `s3://BUCKET/PREFIX` (needs obstore), or "
        "`file:///FOLDER` that all processes share; empty: in Redis. Jobs' go there once all workers have it.",
    )
    object_store_endpoint: str = _set(
        "", addresses.store_endpoint, "URL of an S3-compatible service; empty: Amazon's.", hidden=True
    )
    object_store_region: str = _set("", str, "Region of the bucket; empty: as the environment or the service say.")
    object_store_key_id: str = _set("", str, "Access key of the bucket; empty: as the environment or the host say.")
    object_store_secret: str = _set("", str, "Its secret.", secret=True)

    # Running
    log_level: str = _set("info", _one_of("debug", "info", "warning", "error"), "Least severe level logged.")
    log_format: str = _set("json", _one_of("json", "text"), "One JSON object a line, or text.")
    otlp_endpoint: str = _set(
        "", addresses.endpoint, "OTLP gRPC endpoint for traces; empty: none are exported.", hidden=True
    )
    shutdown_grace_s: float = _set(30.0, _number(0, 3600), "Seconds that accepted work may take after SIGTERM.")
    drain_delay_s: float = _set(0.0, _number(0, 600), "Seconds between falling from ready and refusing new work.")
    device_peak_flops: float = _set(
        0.0, _number(0, 1e18), "FLOPs a second the device can do in `dtype`, shown beside those done; 0: not shown."
    )

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsError(f"{PREFIX}TLS_CERT and {PREFIX}TLS_KEY must be given together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise SettingsError(f"{PREFIX}TLS_CLIENT_CA needs {PREFIX}TLS_CERT and {PREFIX}TLS_KEY")
        if self.api_keys and self.api_keys_file is not None:
            raise SettingsError(f"{PREFIX}API_KEYS and {PREFIX}API_KEYS_FILE are both set: give one")
        if self.metrics_port and self.metrics_port in (self.http_port, self.grpc_port if self.grpc_enabled else 0):
            raise SettingsError(f"{PREFIX}METRICS_PORT is that of HTTP or gRPC; without it /metrics is on HTTP's")
        for low, high in (("default_deadline_ms", "max_deadline_ms"), ("min_side", "max_side")):
            if getattr(self, low) > getattr(self, high):
                raise SettingsError(f"{PREFIX}{low.upper()} is above {PREFIX}{high.upper()}")
        if self.engine == "redis" and not self.redis_url:
            raise SettingsError(f"{PREFIX}ENGINE=redis needs {PREFIX}REDIS_URL")
        url = urlsplit(self.redis_url)
        if self.redis_password and url.password:
            raise SettingsError(f"{PREFIX}REDIS_PASSWORD is set and {PREFIX}REDIS_URL holds a password: give one")
        if self.redis_username and url.username and unquote(url.username) != self.redis_username:
            raise SettingsError(f"{PREFIX}REDIS_USERNAME is set and {PREFIX}REDIS_URL names another user")
        # Names of a file's keys come and go while the service runs.
        names_are_known = self.api_keys_file is None
        if names_are_known and (unknown_keys := set(self.model_control) - {"*", *(name for name, _ in self.api_keys)}):
            raise SettingsError(f"{PREFIX}MODEL_CONTROL names no key of {PREFIX}API_KEYS: {', '.join(unknown_keys)}")
        if self.webhook_prefixes and not self.webhook_secret:
            raise SettingsError(f"{PREFIX}WEBHOOK_PREFIXES needs {PREFIX}WEBHOOK_SECRET: webhooks are signed")

    @property
    def inflight_bytes(self) -> int:
        """Return `max_inflight_bytes`; where it is 0, `max_queue_bytes`, or more if one gRPC message needs more."""
        return self.max_inflight_bytes or max(self.max_queue_bytes, MESSAGE_PARTS * self.max_body_bytes)

    @property
    def message_bytes(self) -> int:
        """Return the largest gRPC message, bytes: `max_body_bytes`, or less: four fit `inflight_bytes`, one 31 bits."""
        return max(1, min(self.max_body_bytes, self.inflight_bytes // MESSAGE_PARTS, 2**31 - 1))

    def replace(self, **changes: Any) -> Settings:
        """Return the same settings with some fields changed, for a part that needs them otherwise."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Settings:
        """Read every DMVFN_* variable; an empty value means the default. SettingsError names a bad one.

        A secret may stand in a file that NAME_FILE names instead.
        """
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            name = PREFIX + field.name.upper()
            text = _text_of(name, field, environment)
            if not text:
                continue
            try:
                if any("\ud800" <= character <= "\udfff" for character in text):  # bytes that are no text
                    raise ValueError("must be UTF-8")
                values[field.name] = field.metadata["parse"](text)
            except ValueError as error:
                # A URL may hold a password, or a signature that opens it.
                value = "(hidden)" if field.metadata["hidden"] or "://" in text else repr(text)
                raise SettingsError(f"{name}={value}: {error}") from None
        return cls(**values)


def unknown(environment: Mapping[str, str]) -> list[str]:
    """List DMVFN_* names that mean nothing here: worth a warning, no stop (Kubernetes adds DMVFN_SERVICE_HOST &c.)."""
    fields = dataclasses.fields(Settings)
    variables = {PREFIX + field.name.upper() for field in fields}
    variables |= {f"{PREFIX}{field.name.upper()}_FILE" for field in fields if field.metadata["secret"]}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in variables)


def table() -> str:
    """Return the Markdown table of docs/operations.md: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for field in dataclasses.fields(Settings):
        rows.append(f"| `{PREFIX}{field.name.upper()}` | {_default_cell(field.default)} | {field.metadata['help']} |")
    return "\n".join(rows)


def as_text(value: object) -> str:
    """Return a setting's value as one would write it into its variable; empty where there is none."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, tuple):
        words = ("x".join(map(str, item)) if isinstance(item, tuple) else str(item) for item in value)
        return ",".join(words)
    return "" if value is None else str(value)


def _default_cell(default: object) -> str:
    return f"`{as_text(default)}`" if as_text(default) else "(empty)"
