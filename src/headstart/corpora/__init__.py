"""Corpora: readers, splits, and manifests with one row an utterance."""
