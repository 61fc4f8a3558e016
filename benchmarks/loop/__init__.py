"""A car driven by delayed pictures, with and without prediction: what prediction is worth in a closed loop."""
