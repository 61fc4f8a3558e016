"""Which waiting requests run together, and when: pure, time is an argument."""
