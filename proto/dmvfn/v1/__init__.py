"""dmvfn.v1: two frames in, the next frames out; and live streams."""
