"""The one YAML reader: keeps line numbers, refuses duplicate keys, limits aliases, runs nothing.

Booleans are ``true`` and ``false`` only (YAML 1.2), so that a class named ``no`` or ``checks: off`` stays text, and
``1e-4`` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from skelgraph.errors import UserError

Path = tuple[Hashable, ...]
MAX_NODES = 200_000
MAX_ALIASES = 100
MAX_DEPTH = 60
# The same parser in C, ten times as quick, where PyYAML was built with it.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PLAIN_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


@dataclass(frozen=True)
class Document:
    """Plain data read from ``source``, with the line of every key and list item."""

    data: Any
    source: str
    lines: dict[Path, int] = field(default_factory=dict)

    def where(self, *path: Hashable) -> str:
        """``file:line`` of a key, or of its nearest enclosing key that stands in the file."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return f"{self.source}:{self.lines[path[:end]]}"
        return self.source


class _Loader(_Safe):
    """SafeLoader with YAML 1.2 booleans and floats."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":bool", ":float", ":timestamp"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.(?:inf|nan))$"),
    list("-+.0123456789"),
)


class _Builder:
    """Turns a composed node tree into plain data and records lines; enforces the limits."""

    def __init__(self, loader: _Loader, source: str) -> None:
        self.loader, self.source = loader, source
        self.lines: dict[Path, int] = {}
        self.count = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.count += 1
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if self.count > MAX_NODES or len(path) > MAX_DEPTH:
            raise UserError(f"{self.source}:{line}: too large or too deep for a configuration file.")
        if isinstance(node, yaml.CollectionNode) and node.tag not in PLAIN_TAGS:
            raise UserError(f"{self.source}:{line}: the tag '{node.tag}' is not allowed; only plain data is read.")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._plain(node)

    def _plain(self, node: yaml.Node) -> Any:
        try:
            return self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, OverflowError) as error:
            # Python refuses to turn numbers of thousands of digits into a number.
            line, reason = node.start_mark.line + 1, (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{self.source}:{line}: cannot read '{str(node.value)[:60]}': {reason}") from None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(f"{self.source}:{line}: a key must be a plain word.")
            key = self._plain(key_node)
            if key in result:
                first = self.lines[(*path, key)]
                raise UserError(f"{self.source}:{line}: '{key}' is given twice (first on line {first}); keep one.")
            self.lines[(*path, key)] = line
            result[key] = self.build(value_node, (*path, key))
        return result


def _check_events(text: str, source: str) -> None:
    """Hold the limits before anything is built: building calls itself for every level."""
    aliases = depth = 0
    for event in yaml.parse(text, Loader=_Safe):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > MAX_ALIASES:
            raise UserError(f"{source}: more than {MAX_ALIASES} aliases.")
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise UserError(f"{source}:{line}: too large or too deep for a configuration file.")


def parse(text: str, source: str) -> Document:
    """Read YAML text.

    Raises:
        UserError: syntax error, duplicate key, too many aliases, or a tag that would build an object; names
            ``source`` and the line.
    """
    try:
        _check_events(text, source)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            builder = _Builder(loader, source)
            data = builder.build(node, ()) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise UserError(f"{source}:{line}: not valid YAML: {error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not valid YAML: {str(error).splitlines()[0]}.") from None
    return Document(data, source, builder.lines)


def read(path: FilePath | str) -> Document:
    """Read a YAML file; errors name the file as the user wrote it."""
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    return parse(text, str(path))
