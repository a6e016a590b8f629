"""SVG elements as text; colours come from the page's CSS classes."""

from __future__ import annotations

from html import escape


def svg(width: float, height: float, label: str, content: str, style: str = "figure", extra: str = "") -> str:
    """An SVG element that scales with the page and says aloud what it shows."""
    return (
        f'<svg class="{style}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}"{extra}>'
        f"{content}</svg>"
    )


def text(x: float, y: float, words: object, style: str = "", anchor: str = "start", extra: str = "") -> str:
    """An SVG text element."""
    named = f' class="{style}"' if style else ""
    placed = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.5g}" y="{y:.5g}"{named}{placed}{extra}>{escape(str(words))}</text>'
