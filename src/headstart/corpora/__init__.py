"""Corpora: readers, and manifests with one row an utterance."""
