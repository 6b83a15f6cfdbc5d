"""Probes: linear CTC layers on the frozen layers of a start."""
