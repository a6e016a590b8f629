"""Named components: models, methods, transforms, readers.

The keyword-only parameters of a registered factory are what a recipe may set; everything positional is supplied
by the toolkit. That one convention lets a recipe be checked before any data is touched.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from typing import Any, Generic, TypeVar

from skelgraph.errors import UserError, unknown

T = TypeVar("T", bound=Callable[..., Any])


class Registry(Generic[T]):
    """A table from names to factories of one kind (``model``, ``method``, ...)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that enters a class or function under ``name``.

        Raises:
            UserError: the name is taken by another factory.
        """

        def enter(factory: T) -> T:
            if name in self._factories and self._factories[name] is not factory:
                raise UserError(f"{self.kind} '{name}' is registered twice; choose another name.")
            self._factories[name] = factory
            return factory

        return enter

    def names(self, pattern: str = "*") -> list[str]:
        """Registered names that match a shell pattern, sorted."""
        return sorted(name for name in self._factories if fnmatch(name, pattern))

    def __contains__(self, name: str) -> bool:
        return name in self._factories

    def get(self, name: str, where: str = "") -> T:
        """The factory called ``name``; ``where`` (file and line) is put in front of the error."""
        if name not in self._factories:
            raise unknown(self.kind, name, self._factories, where)
        return self._factories[name]

    def settings(self, name: str, where: str = "") -> dict[str, inspect.Parameter]:
        """The keyword-only parameters of ``name``: what a recipe may set."""
        parameters = inspect.signature(self.get(name, where)).parameters
        return {key: p for key, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def check(self, name: str, settings: Mapping[str, Any], where: str = "") -> None:
        """Raise unless every key of ``settings`` is a parameter of ``name`` and every required one is there."""
        allowed = self.settings(name, where)
        for key in settings:
            if key not in allowed:
                raise unknown(f"key of {self.kind} '{name}'", key, allowed, where)
        for key, parameter in allowed.items():
            if parameter.default is inspect.Parameter.empty and key not in settings:
                place = f"{where}: " if where else ""
                raise UserError(f"{place}{self.kind} '{name}' needs the key '{key}'.")

    def create(self, name: str, *args: Any, where: str = "", **settings: Any) -> Any:
        """Build ``name`` with checked settings."""
        self.check(name, settings, where)
        return self.get(name, where)(*args, **settings)
