"""Bottlenecks: features to a code and what it costs, (B, N, F) → Code."""
