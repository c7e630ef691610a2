"""Pixel likelihoods: what the decoder’s numbers mean."""
