"""One small file a kind of corpus: the keys of its settings, its reader, and what the reader expects on disk."""
