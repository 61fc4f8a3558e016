"""Load generators, measurements and a simulator; each file says how to run it."""
