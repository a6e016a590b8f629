"""A griffe extension: docstrings of this package where their style and griffe's differ."""

from __future__ import annotations

import re
from typing import Any

import griffe

SEVERAL_NAMES = re.compile(r"^( *)(\w+(?:, \w+)+):", re.M)


class SeveralNames(griffe.Extension):
    """``frames, persons: how many`` documents two names; griffe takes what follows a plain space for a type."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Put no-break spaces between the names."""
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = SEVERAL_NAMES.sub(lambda found: found[0].replace(", ", ",\u00a0"), text)
