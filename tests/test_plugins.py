"""Loading a user's own Python files."""

from __future__ import annotations

from pathlib import Path

import pytest

from skelgraph import plugins
from skelgraph.errors import UserError
from skelgraph.nn.pyg_conv import CONVS


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_beside_the_recipe_registers_its_layer_once(tmp_path: Path) -> None:
    text = "from skelgraph.nn.pyg_conv import CONVS\n@CONVS.register('from_plugin')\nclass Mine:\n    pass\n"
    path = write(tmp_path, "my layers.py", text)
    first, second = plugins.load(["my layers.py", path], beside=tmp_path)
    assert first is second
    assert CONVS.get("from_plugin") is first.Mine
    assert first.__name__.startswith("skelgraph_plugin_my_layers_")


def test_files_of_the_same_name_do_not_hide_each_other(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "json.py", f"value = '{folder}'\n")
    one, other = plugins.load(["a/json.py", "b/json.py"], beside=tmp_path)
    assert (one.value, other.value) == ("a", "b")
    import json

    assert json.dumps(1) == "1"


def test_dataclasses_of_a_plugin_work(tmp_path: Path) -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    text = head + "@dataclass\nclass Pair:\n    a: int = 1\n"
    (module,) = plugins.load([write(tmp_path, "pair.py", text)])
    assert module.Pair().a == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plugin 'none\.py' not found"):
        plugins.load(["none.py"], beside=tmp_path)
    write(tmp_path, "layers.txt", "")
    with pytest.raises(UserError, match="no Python file"):
        plugins.load(["layers.txt"], beside=tmp_path)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("x = 1\ny = 1 / 0\n", 2, "ZeroDivisionError"),
        ("x = 1\n\ndef f(:\n", 3, "SyntaxError"),
        ("def f():\n    import nowhere_at_all\n\nf()\n", 2, "ModuleNotFoundError"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
        ("raise SystemExit(3)\n", 1, "SystemExit"),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = write(tmp_path, "faulty.py", text)
    with pytest.raises(UserError) as caught:
        plugins.load(["faulty.py"], beside=tmp_path)
    assert str(caught.value).startswith(f"{path.resolve()}:{line}: ")
    assert what in str(caught.value)
    path.write_text("fixed = True\n")
    (module,) = plugins.load(["faulty.py"], beside=tmp_path)
    assert module.fixed, "a faulty file leaves nothing behind"
