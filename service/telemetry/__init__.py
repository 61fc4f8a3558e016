"""Metrics, logs, traces and the context of a request."""
