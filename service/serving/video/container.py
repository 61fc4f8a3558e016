"""Reads and writes containers: importing it needs PyAV, which y4m does without."""

from __future__ import annotations

from service.serving.video.container_reader import ContainerSource
from service.serving.video.container_writer import ContainerSink

__all__ = ["ContainerSink", "ContainerSource"]
