"""One input: how real tools make it, and what must become of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Expected:
    """What must become of a clip: everything as in the source, but for what is named here."""

    refused: str = ""  #: words of the refusal; empty: it is not refused
    note: str = ""  #: words of X-Dmvfn-Note
    has_sound: bool = True  #: false: the source's sound must be left out, and `note` says so
    sounds: tuple[str, ...] = ()  #: codecs of the answer's sound, where these are not the source's
    languages: tuple[str, ...] = ()  #: of the answer's sound, where these matter
    frames: int = 0  #: 0: as many as ffprobe counts in the source
    step: float = 0.0  #: seconds between two frames, all of them; 0: as in the source
    tolerance: float = 0.002  #: seconds by which a frame may be shown earlier or later
    decibels: float = 30.0  #: PSNR of every frame to the source's as FFmpeg decodes it
    aspect: float = 0.0  #: of the shown picture; 0: as ffprobe says
    is_mapped: bool = False  #: high dynamic range: mapped to BT.709, so that pixels and colours are others
    is_interlaced: bool = False  #: compared with what bwdif makes of the source
    is_square: bool = False  #: pixels are made square, so the size is another


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip. `commands` is bash in a folder that has base.y4m, base.wav, base.mp4 and what earlier ones made."""

    name: str
    about: str
    commands: str
    expected: Expected = Expected()
    accept: str = "video/mp4"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file, sent as both frames. `refused`: words of the refusal; empty: it must be answered as it looks."""

    name: str
    about: str
    commands: str
    refused: str = ""
    decibels: float = 38.0
