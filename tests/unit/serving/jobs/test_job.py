from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest

from service.core.errors import InvalidRequest, ServiceError
from service.core.types import Frame, Options
from service.serving.jobs.job import (
    WEBHOOK_TRIES,
    Failure,
    Hooks,
    JobState,
    JobView,
    NewJob,
    fingerprint,
    job_id,
    webhook_signature,
    webhook_wait,
)

KINDS = sorted(ServiceError.__subclasses__(), key=lambda kind: kind.code)


def blank(height: int, width: int) -> Frame:
    return Frame(np.zeros((height, width, 3), np.uint8))


def test_three_states_are_final() -> None:
    assert [s.value for s in JobState if s.final] == ["done", "failed", "cancelled"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_as_a_value(kind: type[ServiceError]) -> None:
    error = kind("words", field="steps", retry_after=1.5, reason="why")
    again = Failure.of(error).error()
    assert type(again) is kind
    assert (again.message, again.field, again.retry_after, again.reason) == ("words", "steps", 1.5, "why")


def test_an_error_of_a_newer_version_is_an_internal_one() -> None:
    assert Failure("from the future", "words").error().code == "internal"


def test_a_key_names_one_job_of_one_client() -> None:
    assert job_id("ann", "k") == job_id("ann", "k")
    assert (
        len({job_id("ann", "k"), job_id("bob", "k"), job_id("ann", "l"), job_id("", "annk"), job_id("a", "nnk")}) == 5
    )
    assert job_id("ann", None) != job_id("ann", None)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb"])
def test_a_key_that_no_header_should_hold_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequest):
        job_id("ann", key)


def test_a_fingerprint_tells_parts_that_join_alike_apart() -> None:
    assert fingerprint([b"ab", b"c"]) == fingerprint([b"ab", b"c"])
    assert fingerprint([b"ab", b"c"]) != fingerprint([b"a", b"bc"])


def test_a_job_has_two_frames_or_more_of_one_size() -> None:
    assert NewJob("j", "", (blank(16, 16),) * 5, Options(), "").items == 4
    with pytest.raises(InvalidRequest, match="at least two"):
        NewJob("j", "", (blank(16, 16),), Options(), "")
    with pytest.raises(InvalidRequest, match="number 3 is 32x16") as caught:
        NewJob("j", "", (blank(16, 16), blank(16, 16), blank(16, 32)), Options(), "")
    assert caught.value.field == "frames[2]"


def test_only_state_and_progress_are_news() -> None:
    view = JobView("j", JobState.QUEUED, 4, 1, 0.0, position=3)
    assert view.progress == 0.25
    assert view.same_as(JobView("j", JobState.QUEUED, 4, 1, 0.0, position=2))
    assert not view.same_as(JobView("j", JobState.QUEUED, 4, 2, 0.0))


def test_webhooks_wait_longer_each_time_and_end() -> None:
    waits = [webhook_wait(tries, 0.5) for tries in range(1, WEBHOOK_TRIES)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    assert webhook_wait(WEBHOOK_TRIES, 0.5) is None
    assert (webhook_wait(1, 0.0), webhook_wait(1, 1.0)) == (3.75, 6.25)


def test_a_signature_covers_time_and_body() -> None:
    mac = hmac.new(b"secret", b"17.{}", hashlib.sha256).hexdigest()
    assert webhook_signature("secret", 17, b"{}") == f"t=17,v1={mac}"


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/",
        "https://hooks.example.evil.net/",
        "https://user@hooks.example/",
        "https://hooks.example/../x",
        "https://hooks.example/a b",
        "https://hooks.example\\@evil.net/",
        "HTTPS://evil/https://hooks.example/",
        "https://hooks.example:8443/x",
        "http://hooks.example/x",
        "https://hooks.example@evil.net/",
        "https://hooks.example:443@evil.net/",
        "https://hooks.example/%2e%2e/x",
        "https://hooks.example/a/%2E%2e%2Fx",
        "https://hooks.example/a%5c..%5cx",
        "https://hooks.example/%zz",
        "https://hooks.example/caf\xe9",
        "https://hooks.example/a#b",
        "https://hooks.example:port/",
        "hooks.example/",
    ],
)
def test_a_webhook_goes_nowhere_but_to_an_allowed_prefix(url: str) -> None:
    with pytest.raises(InvalidRequest):
        Hooks(("https://hooks.example/",)).check(url)


def test_an_allowed_webhook_and_none_at_all_pass() -> None:
    hooks = Hooks(("https://hooks.example/", "http://in.house:8080/h/"))
    assert hooks.check("http://in.house:8080/h/job") == "http://in.house:8080/h/job"
    assert hooks.check(None) is None
    # The same place, written otherwise.
    assert hooks.check("HTTPS://Hooks.Example:443/job") == "https://hooks.example/job"
    assert hooks.check("http://IN.house:08080/%68/job?x=%2e.") == "http://in.house:8080/h/job?x=%2e."
    assert Hooks(("HTTPS://Hooks.example:443/",)).check("https://hooks.example/a") == "https://hooks.example/a"
