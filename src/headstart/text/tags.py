"""Language tags of BCP 47 that name no language."""

UNDETERMINED, SEVERAL, UNCODED = "und", "mul", "mis"  # not known; more than one; one without a code
NO_SPEECH = "zxx"  # of tokens that are not words, such as punctuation
NO_LANGUAGE = frozenset({UNDETERMINED, SEVERAL, UNCODED, NO_SPEECH})
