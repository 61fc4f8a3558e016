"""Quality against work: predicts every frame of a folder with 1 to 9 blocks and prints PSNR beside GFLOPs.

Usage: python client/examples/quality.py FOLDER [URL]    numbered frames in FOLDER, a service at URL
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dmvfn_client import Client

WIDTH = 30  #: of the bars, characters


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """dB; two frames that are equal count as 100."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return min(100.0, 10 * np.log10(255**2 / error)) if error else 100.0


def main(folder: str, url: str = "http://localhost:8000") -> None:
    """One line for repeating the last frame, one for each budget, one for the network's own choice."""
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix in (".png", ".jpg", ".webp"))
    frames = [np.array(Image.open(path).convert("RGB")) for path in paths]
    if len(frames) < 3:
        raise SystemExit(f"{folder} has {len(frames)} frames; at least three are needed")
    triples = list(zip(frames, frames[1:], frames[2:], strict=False))
    repeat = float(np.mean([psnr(current, truth) for _, current, truth in triples]))
    rows = [("repeat", repeat, 0.0)]
    with Client(url) as dmvfn:
        for name, blocks in [*((f"{k} blocks", k) for k in range(1, 10)), ("auto", None)]:
            answers = [dmvfn.predict(previous, current, blocks=blocks) for previous, current, _ in triples]
            scores = [psnr(answer.pixels, triple[2]) for answer, triple in zip(answers, triples, strict=True)]
            rows.append((name, float(np.mean(scores)), float(np.mean([answer.flops for answer in answers])) / 1e9))
    low, high = min(row[1] for row in rows), max(row[1] for row in rows)
    print(f"{'':9} {'PSNR':>8} {'GFLOPs':>8}")
    for name, score, flops in rows:
        bar = "#" * round(1 + (WIDTH - 1) * (score - low) / max(high - low, 1e-9))
        print(f"{name:9} {score:5.2f} dB {flops:8.2f}  {bar}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
