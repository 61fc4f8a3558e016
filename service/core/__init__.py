"""What decides: pure code that takes time and randomness as arguments (stdlib, numpy and Pillow only)."""
