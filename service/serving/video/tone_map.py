"""High dynamic range (PQ and HLG with BT.2020's colours) to what BT.709 shows: the network sees 8 bits of SDR.

Light is computed in candela per square metre, its brightest part rolled off, and its colours moved to BT.709's
primaries. Sources: BT.2100 (curves), BT.2087 (colours), BT.2408 (203 cd/m2 is diffuse white).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

#: ISO/IEC 23091-2's numbers of the transfer curves.
PQ, HLG = 16, 18
#: ISO/IEC 23091-2's numbers of primaries: BT.709's, and P3's of cinemas and of displays.
_BT709, _DCI_P3, _DISPLAY_P3 = 1, 11, 12
#: Rows that are computed at once: floats of a whole 4K frame would take 400 MB.
_BAND = 64
#: cd/m2: diffuse white and the brightest that is told apart.
_WHITE, _PEAK = 203.0, 1000.0
#: Share of SDR's range where the roll-off begins.
_KNEE = 0.6
_2020_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_P3_TO_709 = np.array([[1.2249, -0.2249, 0.0], [-0.0421, 1.0421, 0.0], [-0.0196, -0.0786, 1.0982]], np.float32)
#: By primaries. BT.2100 has BT.2020's, so that a film that does not tell has these.
_TO_709 = {_BT709: None, _DCI_P3: _P3_TO_709, _DISPLAY_P3: _P3_TO_709}
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)

Values = NDArray[np.float32]


def is_hdr(transfer: int) -> bool:
    """Tell whether a clip with this curve is brighter than SDR."""
    return transfer in (PQ, HLG)


def to_sdr(pixels: NDArray[np.uint16], transfer: int, primaries: int, white: int = 65535) -> NDArray[np.uint8]:
    """Convert HxWx3 of 16 bits with curve PQ or HLG, whose full signal is `white`, to BT.709, 8 bits."""
    light_of, target = _light_table(transfer, white), np.empty(pixels.shape, np.uint8)
    to_709 = _TO_709.get(primaries, _2020_TO_709)
    for top in range(0, len(pixels), _BAND):
        light = light_of[pixels[top : top + _BAND]]
        if transfer == HLG:
            # The display's brightness works on luma: what is dark on the stage is darker on the screen.
            light *= np.maximum(light @ _LUMA_2020 / np.float32(_PEAK / _WHITE), 1e-6)[..., None] ** np.float32(0.2)
        if to_709 is not None:
            light = light @ to_709.T
        light = _rolled_off(light.clip(0))
        target[top : top + _BAND] = _signal_table()[(light * 65535 + 0.5).astype(np.uint16)]
    return target


@cache
def _light_table(transfer: int, white: int = 65535) -> Values:
    """Return the light (1 is diffuse white) of each signal, `white` at most; for HLG of the scene, up to the peak's."""
    signal = np.minimum(np.arange(65536) / white, 1.0)
    light = _light_of_pq(signal) if transfer == PQ else _PEAK * _scene_of_hlg(signal)
    return (light / _WHITE).astype(np.float32)


@cache
def _signal_table() -> NDArray[np.uint8]:
    """Return the signal that a display of BT.1886 shows as light of 0..1."""
    return (np.linspace(0.0, 1.0, 65536) ** (1 / 2.4) * 255 + 0.5).astype(np.uint8)


def _light_of_pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    light: NDArray[np.float64] = 10000.0 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return light


def _scene_of_hlg(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene: NDArray[np.float64] = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return scene


def _rolled_off(light: Values) -> Values:
    """Map 0..peak (1 is diffuse white) to 0..1: straight to the knee, then slower and slower; hues stay."""
    largest = light.max(axis=-1, keepdims=True)
    room, most = 1 - _KNEE, _PEAK / _WHITE - _KNEE
    above = np.clip(largest - _KNEE, 0, most)
    # Leaves the knee with slope 1 and reaches 1 at the peak.
    shoulder = _KNEE + above / (1 + above * (1 / room - 1 / most))
    target = np.where(largest > _KNEE, shoulder, largest)
    levels: Values = light * (target / np.maximum(largest, 1e-9))
    return levels.clip(0, 1)
