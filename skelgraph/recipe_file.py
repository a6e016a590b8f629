"""Recipe text to plain data: ``extends:``, overrides and interpolation, with the file and line of every key."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skelgraph import assets, yamlfile
from skelgraph.errors import UserError

Places = dict[tuple[Hashable, ...], str]
ALTERNATIVES = {"epochs": "steps", "steps": "epochs"}
MAX_EXTENDS = 10


class Source:
    """Plain data and the place (``file:line``) each key came from."""

    def __init__(self, data: dict[str, Any], places: Places, file: str) -> None:
        self.data, self.places, self.file = data, places, file

    def where(self, *path: Hashable) -> str:
        """The place of a key, or of the nearest enclosing one that is written down."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.file


def load(name: str | Path, overrides: Sequence[str] = (), extra: Mapping[str, Any] | None = None) -> Source:
    """Read a recipe by name or path, with everything it extends, then ``extra``, then ``key.sub=value`` overrides.

    Raises:
        UserError: not found, not YAML, a loop of ``extends``, a malformed override, an interpolation that fails.
    """
    path = assets.find("recipes", name, "recipe")
    source = _extended(path, ())
    if extra:
        source = merge(source, Source(dict(extra), {}, source.file))
    given = [_override(text) for text in overrides]
    last = [one for place, one in enumerate(given) if _removes_stage(one, given[place + 1 :])]
    for one in given:
        if one not in last:
            source = merge(source, one)
    # What other stages take over from a stage that goes (``${stages.pretrain.model}``) is still wanted.
    source = Source(_interpolate(source), source.places, source.file)
    for one in last:
        source = merge(source, one)
    return source


def _extended(path: Path, above: tuple[Path, ...]) -> Source:
    if path.resolve() in above or len(above) > MAX_EXTENDS:
        raise UserError(f"{path}: 'extends' leads back to itself.")
    document = yamlfile.read(path)
    if not isinstance(document.data, dict):
        raise UserError(f"{path}: a recipe is a mapping with 'topology', 'data' and 'stages'.")
    data = dict(document.data)
    base = data.pop("extends", None)
    places: Places = {key: f"{path}:{line}" for key, line in document.lines.items() if key}
    own = Source(data, places, str(path))
    if base is None:
        return own
    if not isinstance(base, str):
        raise UserError(f"{document.where('extends')}: 'extends' takes the name of one recipe.")
    parent = assets.find("recipes", base, f"recipe (extended on {document.where('extends')})", beside=path.parent)
    return merge(_extended(parent, (*above, path.resolve())), own)


def merge(base: Source, over: Source) -> Source:
    """``over`` on top of ``base``: mappings are merged, all else replaced.

    A component ``{name: ...}`` whose name changes is replaced whole, and ``steps`` replaces ``epochs`` (and the other
    way), since a stage has one length.
    """
    places = dict(base.places)
    data = _merge(base.data, over.data, (), places)
    places.update(over.places)
    return Source(data, places, over.file or base.file)


def _merge(base: Any, over: Any, path: tuple[Hashable, ...], places: Places) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    if "name" in base and "name" in over and base["name"] != over["name"] and path:
        for key in [key for key in places if key[: len(path)] == path and key != path]:
            del places[key]
        return over
    result = dict(base)
    for key, value in over.items():
        other = ALTERNATIVES.get(key) if isinstance(key, str) else None
        if other is not None and other not in over and path[:1] in {("stages",), ("demo",)}:
            result.pop(other, None)
        result[key] = _merge(result[key], value, (*path, key), places) if key in result else value
    return result


def _override(text: str) -> Source:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise UserError(f"override '{text}': write key.sub=value, for example data.frames=32.")
    parsed = yamlfile.parse(value, f"override '{text}'").data
    parts: list[Hashable] = [*key.strip().split(".")]
    data: Any = parsed
    for part in reversed(parts):
        data = {part: data}
    places: Places = {tuple(parts[: end + 1]): f"override '{text}'" for end in range(len(parts))}
    return Source(data, places, "")


def _removes_stage(override: Source, later: Sequence[Source]) -> bool:
    """Whether it is ``stages.NAME=null``, and nothing after it gives that stage again."""
    removed = [name for name, stage in (override.data.get("stages") or {}).items() if stage is None]
    return bool(removed) and not any(name in (one.data.get("stages") or {}) for one in later for name in removed)


def _interpolate(source: Source) -> dict[str, Any]:
    """Resolve ``${data.frames}``; look-ups outside the recipe (environment variables) are refused."""
    for path, value in _leaves(source.data, ()):
        if isinstance(value, str) and "${" in value and ":" in value.split("${", 1)[1].split("}", 1)[0]:
            raise UserError(f"{source.where(*path)}: '{value}' looks outside the recipe, which is not allowed.")
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(source.data), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{source.file}: {str(error).splitlines()[0]}") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _leaves(data: Any, path: tuple[Hashable, ...]) -> list[tuple[tuple[Hashable, ...], Any]]:
    if isinstance(data, dict):
        return [leaf for key, value in data.items() for leaf in _leaves(value, (*path, key))]
    if isinstance(data, list):
        return [leaf for i, value in enumerate(data) for leaf in _leaves(value, (*path, i))]
    return [(path, data)]
