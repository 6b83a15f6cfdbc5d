"""Synthetic corpora: sentences of a grammar, spoken by eSpeak NG."""
