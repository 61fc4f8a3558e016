"""Routed prediction on the fastest path that can run it."""
