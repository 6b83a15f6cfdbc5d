"""Languages: their codes, families and places, and how alike they are."""
