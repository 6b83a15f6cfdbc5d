"""Objectives: what each training stage minimises, one file a loss."""
