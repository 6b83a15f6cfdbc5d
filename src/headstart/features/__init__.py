"""Features: decoded audio, what is measured on it, and access to it."""
