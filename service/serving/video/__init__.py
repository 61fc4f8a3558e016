"""Video in, video out: reads clips, predicts frames through an Engine, writes clips. Knows no transport."""
