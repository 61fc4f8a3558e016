"""The parts that front ends and workers share: connections, keys, scripts and the form of messages."""
