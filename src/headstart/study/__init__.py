"""The study file: its sections, how it is read and checked, and the documents that are generated from it."""
