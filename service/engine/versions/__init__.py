"""Versions of the weights: where they come from, which are loaded, and which answers a request."""
