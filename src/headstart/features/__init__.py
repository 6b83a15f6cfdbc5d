"""Features: decoded audio, measurements on it, and access to it."""
