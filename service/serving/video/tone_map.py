"""High dynamic range (PQ and HLG with BT.2020's colours) to what BT.709 shows: the network sees 8 bits of SDR.

Light is computed in candela per square metre, its brightest part rolled off, and its colours moved to BT.709's
primaries. Sources: BT.2100 (curves), BT.2087 (colours), BT.2408 (203 cd/m2 is diffuse white).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

#: ISO/IEC 23091-2's numbers of the transfer curves.
PQ, HLG = 16, 18
_BT2020 = 9
#: Steps of a colour's axis; between them Pillow interpolates.
_GRID = 33
#: cd/m2: diffuse white and the brightest that is told apart.
_WHITE, _PEAK = 203.0, 1000.0
#: Share of SDR's range where the roll-off begins.
_KNEE = 0.6
_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])

Values = NDArray[np.float64]


def is_hdr(transfer: int) -> bool:
    """Tell whether a clip with this curve is brighter than SDR."""
    return transfer in (PQ, HLG)


def to_sdr(pixels: NDArray[np.uint8], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """Convert HxWx3 with curve PQ or HLG to BT.709, 8 bits."""
    return np.asarray(Image.fromarray(pixels).filter(_table(transfer, primaries == _BT2020)))


@cache
def _table(transfer: int, is_wide: bool) -> ImageFilter.Color3DLUT:
    axis = np.linspace(0.0, 1.0, _GRID)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # red runs fastest
    signal = np.stack([red, green, blue], axis=-1)
    light = (_light_of_pq(signal) if transfer == PQ else _light_of_hlg(signal)) / _WHITE
    if is_wide:
        light = light @ _TO_709.T
    return ImageFilter.Color3DLUT(_GRID, _signal_709(_rolled_off(light.clip(0))).reshape(-1), channels=3)


def _light_of_pq(signal: Values) -> Values:
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    light: Values = 10000.0 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return light


def _light_of_hlg(signal: Values) -> Values:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luma = scene @ np.array([0.2627, 0.6780, 0.0593])
    light: Values = _PEAK * np.maximum(luma, 1e-9)[..., None] ** 0.2 * scene
    return light


def _rolled_off(light: Values) -> Values:
    """Map 0..peak (1 is diffuse white) to 0..1: straight to the knee, then slower and slower; hues stay."""
    largest = light.max(axis=-1, keepdims=True)
    room, most = 1 - _KNEE, _PEAK / _WHITE - _KNEE
    above = np.clip(largest - _KNEE, 0, most)
    # Leaves the knee with slope 1 and reaches 1 at the peak.
    curved = _KNEE + above / (1 + above * (1 / room - 1 / most))
    shown = np.where(largest > _KNEE, curved, largest)
    scaled: Values = light * (shown / np.maximum(largest, 1e-9))
    return scaled.clip(0, 1)


def _signal_709(light: Values) -> Values:
    """Return the signal that a display of BT.1886 shows as this light."""
    signal: Values = light ** (1 / 2.4)
    return signal
