"""Analysis: how alike the representations of encoders are."""
