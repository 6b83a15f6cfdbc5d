"""Audio as it lies on disk: files in any container, rows of tables, and what can be believed of their headers."""
