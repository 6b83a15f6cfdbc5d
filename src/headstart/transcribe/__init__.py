"""Transcription of recordings of any length with a fine-tuned run, and the files that it is written to."""
