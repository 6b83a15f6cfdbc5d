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


MOST_VALUES = 100_000  # of a study file, with its aliases written out


class _Loader(yaml.SafeLoader):
    """YAML loader for which a repeated key is an error; PyYAML itself silently keeps the last value.

    So are aliases that contain themselves or stand for more than `MOST_VALUES` values: the smallest file can ask for
    more of them than any memory holds.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _values(node, {})
        return node

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


def _values(node: yaml.Node, counted: dict[int, int]) -> int:
    """The number of values in a node, with aliases written out; `counted` has those of nodes that were counted."""
    if id(node) not in counted:
        counted[id(node)] = -1  # until it is counted
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        pairs = [child for pair in children for child in pair] if isinstance(node, yaml.MappingNode) else children
        counted[id(node)] = 1 + sum(_values(child, counted) for child in pairs)
    problem = "an alias stands for a value that contains it" if counted[id(node)] < 0 else None
    if counted[id(node)] > MOST_VALUES:
        problem = f"its aliases stand for more than {MOST_VALUES:,} values"
    if problem:
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return counted[id(node)]


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
        StudyError: the file is missing, is not YAML, contains a key twice, or has aliases without bounds.
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
    except RecursionError:
        raise StudyError(f"{path}: not valid: its values are nested too deeply") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise StudyError(f"{path}: a study file is a mapping of keys, see config/README.md")
    return data
