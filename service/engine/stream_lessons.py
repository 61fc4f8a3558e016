"""Keeps what a stream's frames taught about its mixture until its next pair comes.

By the frame that a pair ended with: it comes again as the next pair's previous one, in this process as the same object,
which only a stream's does. Forgotten with it. For the device's thread.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from model.mixing.head import MixingHead
from model.mixing.lesson import Lesson
from model.mixing.weights import HeadMetadata
from service.core.types import Frame, PredictRequest

#: Which of a frame's lessons: the candidates of the head that was taught, and the size at which it mixes.
_Taught = tuple[tuple[str, ...], float]


class StreamLessons:
    """Lessons by the frame that the last pair ended with; some 50 KB each."""

    def __init__(self) -> None:
        self._lessons: WeakKeyDictionary[Frame, dict[_Taught, Lesson]] = WeakKeyDictionary()

    def before(self, request: PredictRequest, head: MixingHead, about: HeadMetadata) -> Lesson | None:
        """Return what the pairs before this one taught `head`; a fresh lesson where none came before.

        None for a head that cannot be taught, since it knows the network.
        """
        if head.config.candidates != head.config.without_network:
            return None
        scale = request.options.scale
        kept = self._lessons.get(request.previous, {}).get((head.config.candidates, scale))
        return kept or Lesson.start(head.config, is_crisp=about.crispness > 0 and scale == 1)

    def keep(self, request: PredictRequest, lesson: Lesson) -> None:
        """Keep the lesson that this request's answer came with, for the pair that begins with its current frame."""
        self._lessons.setdefault(request.current, {})[lesson.names, request.options.scale] = lesson
