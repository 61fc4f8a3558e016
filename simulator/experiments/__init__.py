"""The questions that are asked of the simulator."""
