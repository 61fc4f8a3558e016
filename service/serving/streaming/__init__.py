"""Live streams: which frames are predicted, and in what order they are answered."""
