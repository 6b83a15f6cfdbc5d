"""Reading a study file, with an error that has one line for each problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from headstart.errors import HeadstartError
from headstart.study.explain import explain
from headstart.study.study import Study


class StudyError(HeadstartError):
    """A study file that cannot be run. The message has one line for each problem."""


class _Loader(yaml.SafeLoader):
    """YAML loader for which a repeated key is an error; PyYAML itself silently keeps the last value."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value!r} is written twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return node


def parse_study(data: dict[str, Any], source: str = "study") -> Study:
    """The typed study from a plain dict.

    Raises:
        StudyError: the study is not valid; the message names `source` and every problem.
    """
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        lines = explain(error, Study)
        count = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}"
        raise StudyError(f"{source}: {count}\n" + "\n".join(f"  {line}" for line in lines)) from None


def load_study(path: str | Path) -> Study:
    """Read a study file.

    Raises:
        StudyError: the file is missing, is not YAML, or is not a valid study.
    """
    return parse_study(read_yaml(path), str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a study file as a plain dict, without validating it.

    Raises:
        StudyError: the file is missing, is not YAML, or contains a key twice.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"{path}: no such study file")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise StudyError(f"{path}, line {line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise StudyError(f"{path}: a study file is a mapping of keys, see config/README.md")
    return data
