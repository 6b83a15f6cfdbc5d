"""Scoring: transcripts of a test split and their errors."""
