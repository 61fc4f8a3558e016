"""Sound on its way into a container: copied where the container holds it, encoded anew where asked, else left out."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer

from service.serving.video.clip import VideoError

#: What is encoded where a container does not hold the sound as it is.
_ENCODERS = {".webm": "libopus", ".avi": "libmp3lame"}
_DEFAULT_ENCODER = "aac"
_OPUS_RATE = 48000
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
#: Containers that can say that a sound's first packet only warms the decoder.
_WITH_EDITS = ("mp4", "mov")
#: ISO/IEC 14496-3, table 1.18: sampling frequencies by their index.
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_AAC_LOW_COMPLEXITY = 2
#: Seconds by which a container's times may differ from the count of samples.
GAP = Fraction(1, 10)


def holds(format: str, sound: Any) -> bool:
    """Tell whether a container's muxer takes this sound as it is."""
    return _is_taken(format, lambda trial: _added(trial, sound))


def encodes(format: str, sound: Any, suffix: str) -> bool:
    """Tell whether this sound can be encoded anew for a container."""
    return _is_taken(format, lambda trial: _encoder(trial, sound, suffix))


def _is_taken(format: str, add: Callable[[OutputContainer], Any]) -> bool:
    """Try: no table of what muxers and encoders take is true for every release."""
    trial = av.open(io.BytesIO(), "w", format=format)
    try:
        assert isinstance(trial, OutputContainer)
        add(trial)
        trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    finally:
        with contextlib.suppress(av.FFmpegError):
            trial.close()
    return True


def copied(container: OutputContainer, sound: Any) -> SoundCopy:
    """Add a track that takes the sound's packets as they are."""
    is_strict = av.format.Flags.ts_nonstrict not in av.format.Flags(container.format.flags)
    track = _described(_added(container, sound), sound)
    return SoundCopy(track, is_edited=container.format.name in _WITH_EDITS, is_strict=is_strict)


def encoded(container: OutputContainer, sound: Any, suffix: str) -> SoundEncoder:
    """Add a track that takes the sound encoded anew."""
    return SoundEncoder(_described(_encoder(container, sound, suffix), sound), sound)


def _encoder(container: OutputContainer, sound: Any, suffix: str) -> Any:
    codec = _ENCODERS.get(suffix, _DEFAULT_ENCODER)
    rate = _OPUS_RATE if codec == "libopus" else sound.codec_context.sample_rate
    channels = sound.codec_context.layout.nb_channels
    # A name of its own: a file may give a number of channels and not say which they are.
    layout = _LAYOUTS.get(channels, "stereo") if codec != "libmp3lame" or channels == 1 else "stereo"
    return container.add_stream(codec, rate=rate, layout=layout)


class SoundCopy:
    """Hands packets on, their times rising; none of what is hidden or lies over what was heard before.

    `is_strict`: the container takes no two packets of one time.
    """

    def __init__(self, track: Any, *, is_edited: bool, is_strict: bool) -> None:
        self._track, self._is_edited, self._is_strict = track, is_edited, is_strict
        self._last: int | None = None
        self._until = 0  #: where what was heard ends
        self._rate_index: int | None = None

    def packets(self, packet: Any) -> list[Any]:
        """Return what to write for this packet."""
        if packet.pts is not None and packet.pts < 0 and not self._is_edited:
            return []  # hidden; here it would move everything
        if self._was_heard(packet):
            return []  # where recordings were joined, the end of one lies over the start of the next
        self._last, self._until = packet.dts, packet.dts + (packet.duration or 0)
        self._check_rate(packet)
        packet = _without_adts(packet)
        packet.stream = self._track
        return [packet]

    def rest(self) -> list[Any]:
        """Return nothing: no packet is held back."""
        return []

    def _was_heard(self, packet: Any) -> bool:
        """Tell whether most of it lies over the packet before, whose length may be another: Vorbis has two."""
        if self._last is None:
            return False
        start, length = int(packet.dts), int(packet.duration or 0)
        is_back = start <= self._last if self._is_strict else start < self._last
        return is_back or start + length // 2 < self._until

    def _check_rate(self, packet: Any) -> None:
        """Raise VideoError where a broadcast's AAC changes its rate: a file tells it once, and plays the rest by it."""
        if not _has_adts(packet):
            return
        index = bytes(packet)[2] >> 2 & 0xF
        if self._rate_index not in (None, index):
            seconds = float(packet.dts * packet.time_base)
            raise VideoError(f"the rate of its sound changes {seconds:.2f} s after the clip's start; cut it there")
        self._rate_index = index


class SoundEncoder:
    """Decodes packets and encodes what they hold, sample after sample: an encoder takes no other times.

    A broadcast may change its rate and channels on the way; what is encoded has those it began with.
    """

    def __init__(self, track: Any, sound: Any) -> None:
        self._track, self._sound = track, sound
        self._rate = int(track.codec_context.sample_rate)
        self._due: int | None = None  #: the sample that comes next
        self._kind: object = None  #: what the resampler is made for: format, channels and rate
        self._resampler: Any = None

    def packets(self, packet: Any) -> list[Any]:
        """Return what to write for this packet: none, or some. A damaged one is left out."""
        if packet.is_discard or packet.pts is None or packet.pts < 0:
            return []
        try:
            heard = packet.decode()
        except av.InvalidDataError:
            return []
        return self._encoded(heard)

    def rest(self) -> list[Any]:
        """Return the last packets."""
        packets = self._encoded(self._sound.codec_context.decode(None))
        return packets + self._written(self._held()) + list(self._track.encode(None))

    def _encoded(self, heard: list[Any]) -> list[Any]:
        packets: list[Any] = []
        for samples in heard:
            if self._follows(samples):
                packets += self._written(self._resampled(samples))
        return packets

    def _follows(self, samples: Any) -> bool:
        """Count samples on; a pause stays one. Return False for what lies over what was heard before."""
        if samples.pts is not None:
            start = round(samples.pts * samples.time_base * self._rate)
            if self._due is None or start > self._due + self._rate * GAP:
                self._due = start
            elif start < self._due - self._rate * GAP:
                return False
        return True

    def _resampled(self, samples: Any) -> list[Any]:
        kind = samples.format.name, samples.layout.name, samples.sample_rate
        leftover: list[Any] = []
        if kind != self._kind:
            leftover, context = self._held(), self._track.codec_context
            self._resampler = av.AudioResampler(context.format, context.layout, self._rate)
            self._kind = kind
        samples.pts = None  # where it lies is counted here
        return leftover + list(self._resampler.resample(samples))

    def _held(self) -> list[Any]:
        """Return what the resampler still holds."""
        return [] if self._resampler is None else list(self._resampler.resample(None))

    def _written(self, pieces: list[Any]) -> list[Any]:
        packets: list[Any] = []
        for piece in pieces:
            piece.pts, piece.time_base = self._due or 0, Fraction(1, self._rate)
            self._due = piece.pts + piece.samples
            packets += self._track.encode(piece)
        return packets


def _added(container: OutputContainer, sound: Any) -> Any:
    track = container.add_stream_from_template(sound)
    if sound.codec_context.name == "aac" and not sound.codec_context.extradata:
        track.codec_context.extradata = _aac_config(sound.codec_context)
    return track


def _described(track: Any, sound: Any) -> Any:
    """Give a track the language, title and part that the sound has."""
    for name in ("language", "title"):
        if name in sound.metadata:
            track.metadata[name] = sound.metadata[name]
    track.disposition = sound.disposition
    return track


def _aac_config(context: Any) -> bytes:
    """Write what containers want to know of AAC once; a broadcast says it in each packet. Source: ISO 14496-3, 1.6."""
    profile = str(context.profile or "")
    # The extensions double the rate (and make two channels of one); packets tell what they extend.
    rate = context.sample_rate // 2 if profile.startswith("HE") else context.sample_rate
    channels = 1 if profile == "HE-AACv2" else context.layout.nb_channels
    index = min(range(len(_AAC_RATES)), key=lambda k: abs(_AAC_RATES[k] - rate))
    return (_AAC_LOW_COMPLEXITY << 11 | index << 7 | (7 if channels == 8 else channels) << 3).to_bytes(2, "big")


def _has_adts(packet: Any) -> bool:
    context: Any = packet.stream.codec_context
    if context.name != "aac" or context.extradata:
        return False
    head = bytes(memoryview(packet)[:9])
    return len(head) == 9 and head[0] == 0xFF and (head[1] & 0xF6) == 0xF0


def _without_adts(packet: Any) -> Any:
    """Take off the header that a broadcast's AAC packet has (13818-7, 6.2): 7 bytes, 9 with a checksum."""
    if not _has_adts(packet):
        return packet
    data = bytes(packet)
    bare = av.Packet(data[7 if data[1] & 1 else 9 :])
    bare.pts, bare.dts, bare.time_base = packet.pts, packet.dts, packet.time_base
    bare.duration, bare.is_keyframe = packet.duration, True
    return bare
