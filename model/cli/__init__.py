"""The verbs of `python -m model`."""
