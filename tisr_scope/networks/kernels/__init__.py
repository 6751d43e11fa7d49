"""Deformable convolution, computed in plain PyTorch or in Triton."""
