"""What every page shares: one HTML file that needs nothing else, dark or light, on a desk or in a hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def render(title: str, sections: Iterable[str], demo: bool = False, extra: Sequence[str] = ()) -> str:
    """A page as text.

    Args:
        title: plain text, for the browser's tab.
        sections: HTML; empty ones are left out.
        demo: mark every heading as demo data.
        extra: further styles and scripts: ``scene`` for pages with a `skelgraph.pages.scene.block`, ``compare``.
    """
    asset = resources.files("skelgraph.pages")

    def assets(ending: str) -> str:
        files = [asset.joinpath(f"{name}.{ending}") for name in ("page", *dict.fromkeys(extra))]
        return "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())

    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{'DEMO DATA · ' if demo else ''}{escape(title)}</title>"
        f"<style>{assets('css')}</style></head>\n"
        f"<body{' class=demo-run' if demo else ''}><main>\n"
        + "\n".join(part for part in sections if part)
        + f"\n</main><script>{assets('js')}</script></body></html>\n"
    )


def demo_banner(demo: bool, words: str) -> str:
    """What stands above everything measured on demo data; nothing where ``demo`` is false."""
    if not demo:
        return ""
    return f'<aside class="demo" role="note"><strong>DEMO DATA</strong><span>{escape(words)}</span></aside>'
