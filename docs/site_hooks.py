"""MkDocs hooks: files outside docs/ that its pages link to become pages, so that links hold here and on GitHub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = {".py": "python", ".yaml": "yaml"}


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def overview() -> str:
    """The README, with its links as seen from docs/."""
    text = _read("README.md").replace("](docs/", "](").replace("](examples)", "](examples.md)")
    return text.replace("](LICENSE)", "](LICENSE.txt)").replace("# skelgraph\n", "# Overview\n", 1)


def examples() -> str:
    """The code of every example."""
    parts = ["# Examples\n\nThey stand in the folder `examples` of the repository."]
    for path in sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in LANGUAGES):
        text = path.read_text(encoding="utf-8")
        parts.append(f"## {path.name} {{#{path.stem}}}\n\n```{LANGUAGES[path.suffix]}\n{text}```")
    return "\n\n".join(parts) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    made = {"overview.md": overview(), "examples.md": examples(), "LICENSE.txt": _read("LICENSE")}
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links out of docs/ go to the generated pages."""
    markdown = markdown.replace("](../README.md)", "](overview.md)")
    return re.sub(r"\]\(\.\./examples/(\w+)\.\w+\)", r"](examples.md#\1)", markdown)
