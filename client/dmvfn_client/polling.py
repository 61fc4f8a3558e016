"""The polls that wait for a job, whoever sends them."""

from __future__ import annotations

from dmvfn_client import rest
from dmvfn_client.deadline import TIMEOUT, Deadline
from dmvfn_client.errors import DeadlineExceeded
from dmvfn_client.rest import Call
from dmvfn_client.values import Job

#: Seconds of one long poll for a job: the service's longest.
POLL = 50.0
#: Seconds that fetching the result of a job may take at least, if the wait for it took all of the caller's.
FETCH = 1.0


class JobPolling:
    """The wait for one job, at most `timeout` seconds; None: no end."""

    def __init__(self, job: Job | str, timeout: float | None) -> None:
        self.id = rest.job_id(job)
        self._deadline = Deadline(timeout)

    def next_poll(self) -> tuple[Call, float]:
        """Return the next call, and the seconds that it may take."""
        left = self._deadline.left
        seconds = POLL if left is None else max(0.0, min(POLL, left))
        return rest.job(self.id, wait=seconds), seconds + TIMEOUT

    def is_over(self, job: Job) -> bool:
        """Tell whether the job is final. Raises DeadlineExceeded where it is not and the time is over."""
        if not job.final and self._deadline.passed:
            raise DeadlineExceeded(f"job {self.id} is still {job.state}", code="deadline_exceeded")
        return job.final

    def fetch_timeout(self) -> float | None:
        """Return the seconds that are left for the result."""
        left = self._deadline.left
        return None if left is None else max(left, FETCH)
