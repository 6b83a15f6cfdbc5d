"""`text`: how transcripts are normalised."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from headstart.study.explain import KEEP_PATTERN, LANGUAGE_PATTERN
from headstart.study.fields import Settings


def _searchable(table: dict[str, str]) -> dict[str, str]:
    if any(not key.strip() for key in table):
        raise ValueError("has an empty text to replace; write the characters that should be replaced")
    return table


Language = Annotated[str, Field(pattern=LANGUAGE_PATTERN)]
Keep = Annotated[str, Field(pattern=KEEP_PATTERN)]
Tags = Literal["keep", "drop"]
Table = Annotated[dict[str, str], AfterValidator(_searchable)]


class LanguageText(Settings):
    """What differs for one language. A key that is null is as in `text`; `map` is added to the one there."""

    lowercase: bool | None = Field(None, description="Lower-case.")
    keep: Keep | None = Field(None, description="Punctuation characters that are part of words and stay.")
    tags: Tags | None = Field(None, description="Whether non-speech tags stay.")
    map: Table = Field({}, description="Texts that are replaced -> what replaces them.")


class Text(Settings):
    """Text normalisation, the same for references and labels; docs/text.md. Combining marks are always kept."""

    lowercase: bool = Field(True, description="Lower-case, by the language of each token (Turkish dotless i).")
    keep: Keep = Field("'", description="Punctuation characters that are part of words and stay.")
    tags: Tags = Field(
        "keep",
        description="Non-speech tags, such as `[laughter]`, `<unk>` and `(uh)`: `drop` them, or `keep` the words in "
        "them. `map` replaces single ones.",
    )
    map: Table = Field(
        {}, description="Texts that are replaced -> what replaces them, before anything is lower-cased or dropped."
    )
    languages: dict[Language, LanguageText] = Field(
        {}, description="What differs for a language, by BCP 47 tag; `de` is for `de-AT` too."
    )

    def of(self, language: str) -> Text:
        """The settings for one language, with its own in place of the general ones."""
        parts = language.lower().replace("_", "-").split("-")
        own = {tag.lower().replace("_", "-"): settings for tag, settings in self.languages.items()}
        tags = ("-".join(parts[:count]) for count in range(len(parts), 0, -1))
        found = next((own[tag] for tag in tags if tag in own), LanguageText())
        changes = {key: value for key, value in found.model_dump(exclude={"map"}).items() if value is not None}
        return self.model_copy(update={**changes, "map": {**self.map, **found.map}, "languages": {}})
