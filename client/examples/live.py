"""Live video: sends frames at a camera's pace, uses each prediction when it comes, connects again when it must.

Usage: python client/examples/live.py FOLDER [TARGET [FPS]]    numbered frames in FOLDER, a service's gRPC at TARGET
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from dmvfn_client import Busy, ConnectionFailed, GrpcClient, Kind, ServiceFailed, Shot

#: Seconds between two attempts to connect where the service does not say.
PAUSE = 0.5
#: Attempts in a row that bring nothing before it gives up.
ATTEMPTS = 20


class Camera:
    """Stands in for a real one: its frames come on time whether anybody takes them or not."""

    def __init__(self, folder: str, fps: float) -> None:
        paths = sorted(path for path in Path(folder).iterdir() if path.suffix in (".png", ".jpg", ".webp"))
        self._pictures = [np.array(Image.open(path).convert("RGB")) for path in paths]
        self._fps, self._began, self._next = fps, time.monotonic(), 0
        self.taken: dict[str, float] = {}  #: when each frame was taken, by its id

    @property
    def over(self) -> bool:
        """Whether every frame has been taken."""
        return self._next >= len(self._pictures)

    def __iter__(self) -> Iterator[Shot]:
        """From the next frame on; a new stream has nothing to predict from until its second."""
        while not self.over:
            number = self._next
            time.sleep(max(0.0, self._began + number / self._fps - time.monotonic()))
            self._next, self.taken[str(number)] = number + 1, time.monotonic()
            yield Shot(self._pictures[number], str(number), round(number / self._fps * 1e6))


def main(folder: str, target: str = "localhost:8001", fps: str = "30") -> None:
    """Until the camera ends; then one line with what became of its frames."""
    camera, outcomes, waits = Camera(folder, float(fps)), Counter[str](), list[float]()
    failed = 0
    with GrpcClient(target) as dmvfn:
        while not camera.over and failed < ATTEMPTS:
            pause = PAUSE
            try:
                # "latest": a frame that comes too late is of no use to anybody.
                for answer in dmvfn.stream(camera, policy="latest", horizon=1):
                    failed = 0
                    outcomes[answer.kind.value] += 1
                    if answer.kind is Kind.PREDICTION and answer.prediction is not None:
                        waits.append(time.monotonic() - camera.taken[answer.frame_id])
                        _ = answer.prediction.pixels  # show it, compare it, send it on
            except (Busy, ConnectionFailed, ServiceFailed) as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                pause = error.retry_after or PAUSE
            # After DRAINING too: the service that stops is replaced by another at the same address.
            failed += 1
            if not camera.over:
                time.sleep(pause)
    told = " ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    if waits:
        p50, p99 = np.percentile(waits, [50, 99]) * 1000
        told += f"; a prediction took p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    print(told)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3, 4):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
