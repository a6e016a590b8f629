"""The one YAML reader: lines, duplicate keys, limits, plain words."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelgraph import yamlfile
from skelgraph.errors import UserError


def test_lines_of_keys_and_items() -> None:
    document = yamlfile.parse("a: 1\nb:\n  c:\n  - x\n  - y\n", "f.yaml")
    assert document.data == {"a": 1, "b": {"c": ["x", "y"]}}
    assert document.where("b", "c", 1) == "f.yaml:5"
    assert document.where("b", "missing", "deeper") == "f.yaml:2"
    assert yamlfile.Document({}, "memory").where("a") == "memory"


@pytest.mark.parametrize(
    ("text", "value"),
    [("off", "off"), ("no", "no"), ("true", True), ("1e-4", 1e-4), ("1_000", 1000), ("2024-01-01", "2024-01-01")],
)
def test_scalars(text: str, value: object) -> None:
    assert yamlfile.parse(f"key: {text}", "f").data == {"key": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: 'a' is given twice (first on line 1)"),
        ("a: [1, 2\nb: 3\n", "f.yaml:"),
        ("a: !!python/name:os.system ''\n", "f.yaml:1"),
        ("? [a, b]\n: 1\n", "f.yaml:1: a key must be a plain word"),
        ("a: &x 1\nb: [" + ", ".join(["*x"] * 101) + "]\n", "more than 100 aliases"),
        ("a: " + "[" * 70 + "]" * 70, "too deep"),
    ],
)
def test_faults_name_the_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        yamlfile.parse(text, "f.yaml")
    assert message in str(caught.value)


def test_a_tagged_list_is_refused() -> None:
    with pytest.raises(UserError, match=r"f.yaml:1: the tag .*os.system' is not allowed"):
        yamlfile.parse("a: !!python/object/apply:os.system [ls]\n", "f.yaml")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        yamlfile.read(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        yamlfile.read(tmp_path / "binary.yaml")


@given(st.text("ab:-[]{}&*!#|>'\"?,\n\t 01", max_size=40))
def test_any_text_is_read_or_refused_plainly(text: str) -> None:
    with suppress(UserError):
        yamlfile.parse(text, "f.yaml")
