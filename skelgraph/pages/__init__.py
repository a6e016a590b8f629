"""HTML pages in one file: shell, style, script, and skeletons that move."""
