"""Load generators and measurements; each file says how to run it."""
