"""The one exception for mistakes that a user can make and mend."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in a file, a recipe or a command; the message says where it is and what to do.

    The command line prints the message in plain words and leaves with status 2; Python callers catch it.
    """


def shortened(message: str, most: int = 2000) -> str:
    """A message cut in its middle where it repeats something endless out of a file; its place stands in front."""
    return message if len(message) <= most else f"{message[: most * 3 // 4]} ... {message[-most // 4 :]}"


def unknown(kind: str, name: object, allowed: Iterable[str], where: str = "") -> UserError:
    """The error for a name nobody knows: names the place, the nearest match and what is allowed."""
    names = sorted(str(item) for item in allowed)
    near = get_close_matches(str(name), names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    place = f"{where}: " if where else ""
    listing = ", ".join(names) if names else "none"
    return UserError(f"{place}unknown {kind} '{name}'.{hint} Allowed: {listing}.")
