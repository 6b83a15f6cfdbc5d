"""Decoding: language models, beam search with them, and times by forced alignment."""
