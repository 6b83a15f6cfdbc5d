"""Error messages for study files, from pydantic's: the key, what is wrong, and the nearest valid key or name."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

# Names become folder names and Snakemake wildcards, so they hold neither slashes nor dots.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_+-]*$"
BUDGET_PATTERN = r"^[0-9]+(\.[0-9]+)?(s|min|h)$"
KEEP_PATTERN = r"^[^|<>]*$"  # the excluded characters occur in the vocabulary's special tokens
LANGUAGE_PATTERN = r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$"
HUB_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"
REVISION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"
ADAPTER_PATTERN = r"^[a-z]{3}(-[a-z]+_[a-z]+)?$"
PATTERNS = {
    NAME_PATTERN: "letters, digits, _, + and -, a letter or digit first",
    BUDGET_PATTERN: "a number and a unit, such as 90s, 10min or 1h",
    LANGUAGE_PATTERN: "a BCP 47 tag such as tr or de-AT",
    HUB_PATTERN: "the name of a model on a hub, such as facebook/wav2vec2-base (a folder is named by `path`)",
    REVISION_PATTERN: "a commit, tag or branch such as main",
    ADAPTER_PATTERN: "a language code of MMS such as swh or urd-script_arabic",
    KEEP_PATTERN: "characters other than |, < and >, which mark word boundaries and special tokens",
}


def nearest(word: str, valid: list[str]) -> str:
    """` (nearest valid: 'x')` for a mistyped `word`, or the list of valid words when none is similar."""
    close = difflib.get_close_matches(str(word), valid, n=1, cutoff=0.6)
    if close:
        return f" (nearest valid: {close[0]!r})"
    return f" (valid: {', '.join(sorted(valid))})" if valid else ""


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """One line for each problem that pydantic found in a `model`: the dotted key (after `prefix`) and the problem."""
    lines = []
    for problem in error.errors():
        keys, message = _explain_one(problem, model)
        key = ".".join([prefix, *keys] if prefix else keys)
        lines += [f"{key}: {line}" if key else line for line in message.split("\n")]
    return lines


def _explain_one(problem: dict[str, Any], model: type[BaseModel]) -> tuple[list[str], str]:
    """(path of keys, message) of one of pydantic's errors."""
    location, kind, value = problem["loc"], problem["type"], problem["input"]
    keys, section = _locate(model, location)
    got = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."

    if kind == "missing":
        return keys, "this key is required"
    if kind == "extra_forbidden":
        _, section = _locate(model, location[:-1])
        return keys, f"unknown key{nearest(location[-1], list(section['properties']))}"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag, valid = section["discriminator"]["propertyName"], list(section["discriminator"]["mapping"])
        if kind == "union_tag_not_found":
            return [*keys, tag], f"this key is required{nearest('', valid)}"
        return [*keys, tag], f"there is no {tag} {value[tag]!r}{nearest(value[tag], valid)}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        empty = "this section is empty: give it keys, or remove it"
        return keys, empty if value is None else f"should have keys (got {got})"
    if location[-1:] == ("[key]",):
        keys, _ = _locate(model, location[:-2])
        if not isinstance(value, str):  # YAML does not read 1, 1.5, no and 2020-01-01 as text
            return keys, f"the key {value!r} is not text; write it in quotes: '{value}'"
        pattern = problem.get("ctx", {}).get("pattern", NAME_PATTERN)
        kind = "language" if pattern == LANGUAGE_PATTERN else "name"
        return keys, f"{value!r} is no valid {kind}, which is {PATTERNS[pattern]}"
    if kind == "string_pattern_mismatch":
        return keys, f"should be {PATTERNS[problem['ctx']['pattern']]} (got {got})"
    if kind == "string_type" and isinstance(value, bool):
        return keys, f"should be text (got {got}; YAML reads no, off, yes and on so, unless quoted)"
    if kind == "too_short":
        return keys, "is empty"
    if kind == "value_error":
        return keys, problem["msg"].removeprefix("Value error, ")
    return keys, f"{problem['msg'].removeprefix('Input ')} (got {got})"


def _locate(model: type[BaseModel], location: tuple[str | int, ...]) -> tuple[list[str], dict[str, Any]]:
    """The path of keys of one of pydantic's errors, and the JSON Schema of the value there.

    Where the schema is a union (of readers, of kinds of starts), pydantic's location also contains the tag of the
    chosen member. It is left out, because it is not a key of the study file.
    """
    root = model.model_json_schema()
    keys, node = [], root
    for part in location:
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"].get(part, "")}
        else:
            keys.append(str(part))
            names = list(node.get("patternProperties", {}).values())  # a mapping with names as keys
            node = node.get("properties", {}).get(part) or node.get("items") or (names or [{}])[0]
        node = next((branch for branch in node.get("anyOf", []) if "$ref" in branch), node)  # a section or null
        if "$ref" in node:
            node = root["$defs"].get(node["$ref"].rpartition("/")[2], {})
    return keys, node
