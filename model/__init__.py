"""DMVFN: two consecutive frames in, the next frame out. Torch only, tensors in, tensors out."""
