"""Rows of the published tables that stand beside ours where the protocol is the same.

MS-SSIM and LPIPS times 100, at the horizons of the protocol. Origin: copied from a later paper's table
("secondary": Motion Graph, NeurIPS 2024, Table 5), or from memory and to be checked against the PDF ("unverified").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One method's figures."""

    method: str
    ms_ssim: tuple[float | None, ...]
    lpips: tuple[float | None, ...]
    giga_macs: float | None
    origin: Literal["secondary", "unverified"]


ROWS: dict[str, tuple[Row, ...]] = {
    "cityscapes": (
        Row("copy last frame", (76.95, 68.82, 64.45), (None, None, None), None, "unverified"),
        Row("PredNet", (84.03, 79.25, 75.21), (25.99, 29.99, 36.03), 62.62, "secondary"),
        Row("MCNET", (89.69, 78.07, 70.58), (18.88, 31.34, 37.34), 502.80, "secondary"),
        Row("DVF", (83.85, 76.23, 71.11), (17.37, 24.05, 28.79), 409.78, "secondary"),
        Row("CorrWise", (92.80, None, 83.90), (8.50, None, 15.00), 944.29, "secondary"),
        Row("OPT", (94.54, 86.89, 80.40), (6.46, 12.50, 17.83), 313482.15, "secondary"),
        Row("DMVFN without routing", (95.29, 87.91, 81.48), (5.60, 10.48, 14.91), 24.51, "unverified"),
        Row("DMVFN", (95.73, 89.24, 83.45), (5.58, 10.47, 14.82), 12.71, "secondary"),
    ),
    "kitti": (
        Row("copy last frame", (58.31, 48.99, 44.16), (None, None, None), None, "unverified"),
        Row("PredNet", (56.26, 51.47, 47.56), (55.35, 58.66, 62.95), 25.44, "secondary"),
        Row("MCNET", (75.35, 63.52, 55.48), (24.05, 31.71, 37.39), 204.26, "secondary"),
        Row("DVF", (53.93, 46.99, 42.62), (32.47, 37.43, 41.59), 166.47, "secondary"),
        Row("CorrWise", (82.00, None, 66.70), (17.20, None, 25.90), 383.62, "secondary"),
        Row("OPT", (82.71, 69.50, 61.09), (12.34, 20.29, 26.35), 127352.30, "secondary"),
        Row("DMVFN without routing", (88.06, 76.53, 68.29), (10.70, 19.28, 26.13), 9.96, "unverified"),
        Row("DMVFN", (88.53, 78.01, 70.52), (10.74, 19.27, 26.05), 5.15, "secondary"),
    ),
    "davis": (
        Row("DVF", (68.61, 55.47, None), (23.23, 34.22, None), 324.15, "unverified"),
        Row("DYAN", (78.96, 70.41, None), (13.09, 21.43, None), 130.12, "unverified"),
        Row("OPT", (83.26, 73.85, None), (11.40, 18.21, None), 165312.80, "unverified"),
        Row("DMVFN without routing", (84.81, 75.05, None), (9.41, 16.24, None), 19.39, "unverified"),
        Row("DMVFN (t+1; t+3 unverified)", (83.97, 74.81, None), (9.96, 17.28, None), 9.96, "secondary"),
    ),
    "vimeo": (
        Row("DVF", (92.11,), (7.73,), 89.64, "unverified"),
        Row("OPT", (96.75,), (3.59,), 45716.20, "unverified"),
        Row("DMVFN without routing", (97.24,), (3.30,), 5.36, "unverified"),
        Row("DMVFN", (97.01,), (3.69,), 2.77, "secondary"),
    ),
}
