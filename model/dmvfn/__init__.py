"""The network of the paper: blocks, routing, warping. Torch only."""
