"""How simulated requests wait, and which worker takes them."""
