"""Weighs what several motions predict, pixel by pixel, into one frame."""
