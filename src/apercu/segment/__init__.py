"""What every pixel shows: a light decoder on the encoder of a model, learnt from a handful of masks."""
