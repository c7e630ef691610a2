"""Encoders: pixels to features, (B, C, H, W) → (B, N, F)."""
