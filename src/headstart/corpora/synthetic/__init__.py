"""Synthetic corpora: sentences from a grammar, synthesised with eSpeak NG."""
