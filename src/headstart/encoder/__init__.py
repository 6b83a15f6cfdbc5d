"""Encoders: checkpoints, the front-end and the forward pass."""
