"""The compose file: sound, in step with the settings, and its commands run as processes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml

from deploy.generate import HERE as DEPLOY
from service.settings import PREFIX, Settings
from tests.system.e2e.process import PATIENCE, SAMPLES, free_port, service
from tests.unit.deploy.manifests import ROOT
from tests.unit.distributed.servers import binary

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("server", "worker", "worker-gpu")
#: As `openssl rand -base64` makes them, and worse.
PASSWORD = "k3Qz/9+aB==@:#?%41 '\"\\&"

#: Not the default: the ACL must follow.
QUEUE = "next-2.0"


def _with_defaults(text: str, **chosen: str) -> str:
    """As compose reads it: ${NAME:-default}, and $$ for one dollar."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: chosen.get(m[1], m[2]), text).replace("$$", "$")


def test_compose_itself_accepts_it() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip(
            "docker compose is not here (it needs no engine for this); the other tests read the file themselves"
        )
    run = subprocess.run([docker, "compose", "config", "-q"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened_and_pinned(name: str) -> None:
    found = SERVICES[name]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r":\D*\d+\.\d+\.\d+", _with_defaults(found["image"]))
    for port in found.get("ports", []):
        assert port.startswith("127.0.0.1:"), "open to the network"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_get_settings_that_exist_and_can_be_used(name: str) -> None:
    given = {key: _with_defaults(value) for key, value in SERVICES[name]["environment"].items()}
    assert set(given) <= {PREFIX + field.upper() for field in Settings.__dataclass_fields__}
    settings = Settings.from_env(given)
    assert settings.engine == ("redis" if name == "server" else "local")
    grace = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert grace >= settings.drain_delay_s + settings.shutdown_grace_s + 5
    assert SERVICES[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_there_are_two_workers_and_one_more_on_a_gpu_if_asked() -> None:
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_every_mounted_file_exists() -> None:
    mounts = [volume for found in SERVICES.values() for volume in found.get("volumes", []) if volume.startswith("./")]
    assert len(mounts) == 6
    for mount in mounts:
        assert (ROOT / mount.split(":")[0]).exists(), mount
        assert mount.endswith(":ro")


def test_prometheus_looks_for_the_services_that_are_there() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    names = {name for job in config["scrape_configs"] for dns in job["dns_sd_configs"] for name in dns["names"]}
    assert names == set(OURS)
    ports = {dns["port"] for job in config["scrape_configs"] for dns in job["dns_sd_configs"]}
    assert ports == {Settings().http_port}


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "dashboards" / "dmvfn.yml").read_text())["providers"]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].startswith(
        provider["options"]["path"]
    )


@contextlib.contextmanager
def _redis_as_composed(folder: Path, port: int, password: str, queue: str) -> Any:
    """The container's own command, its paths put into `folder`, on a port of loopback."""
    (script,) = SERVICES["redis"]["command"]
    places = {
        "/etc/redis/redis.conf": str(DEPLOY / "kubernetes" / "components" / "redis" / "redis.conf"),
        "/etc/redis/users.acl": str(DEPLOY / "redis" / "users.acl"),
        "/tmp/users.acl": str(folder / "users.acl"),
        "/data": str(folder),
        "exec redis-server": f"exec {binary()}",
    }
    script = _with_defaults(script)
    for theirs, here in places.items():
        script = script.replace(theirs, here)
    process = subprocess.Popen(
        ["sh", "-ceu", f"{script.rstrip()} --port {port} --bind 127.0.0.1"],
        env={**os.environ, "REDIS_PASSWORD": password, "REDIS_QUEUE": queue},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = _with_defaults(SERVICES["server"]["environment"]["DMVFN_REDIS_URL"]).replace(
        "//redis:6379", f"//127.0.0.1:{port}"
    )
    try:
        end = time.monotonic() + PATIENCE
        with redis.Redis.from_url(url, username="dmvfn", password=password) as client:
            while True:
                assert process.poll() is None
                assert time.monotonic() < end
                with contextlib.suppress(redis.ConnectionError):
                    if client.ping():
                        break
                time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def test_its_commands_together_answer_the_readmes_request(tmp_path: Path) -> None:
    """Redis, one worker and the front end as composed, the queue renamed: through the ACL, a prediction comes back."""
    with _redis_as_composed(tmp_path, free_port(), PASSWORD, QUEUE) as url:
        given = {
            name: {
                key.removeprefix(PREFIX): _with_defaults(value, DMVFN_REDIS_PASSWORD=PASSWORD, DMVFN_REDIS_QUEUE=QUEUE)
                for key, value in SERVICES[name]["environment"].items()
            }
            | {"REDIS_URL": url, "DRAIN_DELAY_S": "0"}
            for name in ("server", "worker")
        }
        with (
            service(*SERVICES["worker"]["command"], forked=True, **given["worker"]),
            service(*SERVICES["server"]["command"], forked=True, **given["server"]) as front,
        ):
            pair = {name: (SAMPLES / f"frame0{i}.png").read_bytes() for i, name in enumerate(("previous", "current"))}
            answer = httpx.post(f"{front.http}/v1/predict?deadline_ms=600000", files=pair, timeout=600)
            later = _job(front.http, pair)
            listed = _operator("list", url=url), _operator("dead", url=url)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert later.status_code == 200, later.text
    assert later.content == answer.content
    assert listed == (0, 0)


def _job(front: str, pair: dict[str, bytes]) -> httpx.Response:
    """The same as a job: its result, once it is there."""
    made = httpx.post(f"{front}/v1/jobs", files=pair, timeout=60)
    assert made.status_code == 202, made.text
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        httpx.get(f"{front}{made.headers['location']}", params={"wait": "5"}, timeout=60)
        result = httpx.get(f"{front}{made.headers['location']}/result", timeout=60)
        if result.status_code == 200:
            break
    return result


def _operator(verb: str, url: str) -> int:
    """What `python -m service jobs VERB` says, as exit status."""
    user = {"DMVFN_REDIS_USERNAME": "dmvfn", "DMVFN_REDIS_PASSWORD": PASSWORD, "DMVFN_REDIS_QUEUE": QUEUE}
    environment = {**os.environ, "DMVFN_REDIS_URL": url, **user}
    command = [sys.executable, "-m", "service", "jobs", verb]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=60, check=False).returncode
