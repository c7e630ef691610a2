"""Decoders: code to the parameters of a pixel distribution, (B, N, D) → (B, K·C, H, W)."""
