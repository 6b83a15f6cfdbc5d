"""Text: normalisation, vocabularies and units."""
