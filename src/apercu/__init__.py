"""Apercu: one compact code for your own images, and every job from that code."""
