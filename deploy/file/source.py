"""A YAML file with the line of each of its keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deploy.errors import UserError, brief

Keys = tuple[str | int, ...]
MAX_BYTES = 1_000_000
MAX_NODES = 10_000  # aliases of aliases can make a document of any size from a few lines


@dataclass(frozen=True)
class Source:
    """A read file; `lines` has the line, from 1, of every key and list item by its path."""

    path: Path
    document: dict[str, Any]
    lines: dict[Keys, int]

    def line(self, keys: Keys) -> int:
        """The line of a key, or of the nearest key above it."""
        while keys not in self.lines and keys:
            keys = keys[:-1]
        return self.lines.get(keys, 1)

    def where(self, keys: Keys) -> str:
        return f"{self.path.name}:{self.line(keys)}"

    def find(self, value: object) -> Keys:
        """The first key with this value, or no keys at all."""
        return next((keys for keys, found in _leaves(self.document) if str(found) == str(value)), ())


def dotted(keys: Keys) -> str:
    """`variants[0].weight`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def read(path: Path) -> Source:
    """Read a file. Raises UserError, with the line, if it is no YAML mapping."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} has more than {MAX_BYTES:,} bytes; an endpoint's file has some 10 to 30 lines")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; -f takes an endpoint's file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason}; save it as UTF-8") from error
    try:
        loader = _loader()(text)
        root = loader.get_single_node()
        lines: dict[Keys, int] = {}
        if root is not None:
            _number(root, (), lines, path)
        document = loader.construct_document(root) if root is not None else None
    except yaml.YAMLError as error:
        raise UserError(_in_words(error, path, text)) from error
    if not isinstance(document, dict):
        raise UserError(f"{path.name} is not a mapping of keys to values; see examples/deploy")
    return Source(path, document, lines)


@cache
def _loader() -> type[yaml.SafeLoader]:
    """YAML 1.2 in what 1.1 surprises with: `on` and `no` are text, as are 012345678901 (an account) and 22:30."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith((":bool", ":int", ":timestamp"))]
            for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false|True|False)$"), list("tfTF"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9]\d*)$"), list("-+0123456789"))
    return Loader


def _number(node: yaml.Node, keys: Keys, lines: dict[Keys, int], path: Path) -> None:
    if len(lines) > MAX_NODES:
        raise UserError(f"{path.name} has more than {MAX_NODES:,} values; write it without so many aliases")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if (*keys, name) in lines:
                first = lines[(*keys, name)]
                raise UserError(f"{path.name}:{line}: {name} is there twice, first in line {first}; keep one of them")
            lines[(*keys, name)] = line
            _number(value, (*keys, name), lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            lines[(*keys, place)] = value.start_mark.line + 1
            _number(value, (*keys, place), lines, path)


def _in_words(error: yaml.YAMLError, path: Path, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"{path.name} is no YAML: {brief(error)}"
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    if "\t" in line:
        return f"{path.name}:{mark.line + 1}: YAML is indented by spaces, and this line has a tab; replace it"
    return f"{path.name}:{mark.line + 1}: no YAML: {getattr(error, 'problem', error)}"


def _leaves(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*keys, str(key)))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, (*keys, place))
    else:
        yield keys, value
