"""Measured costs that a simulation starts from."""
