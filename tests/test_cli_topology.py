"""The verbs of ``skelgraph topology``."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from skelgraph.cli.topology import command
from skelgraph.errors import UserError


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_list_names_them_all() -> None:
    output = invoke("list").output
    assert "coco17" in output
    assert "Kinect v2" in output


def test_show() -> None:
    output = invoke("show", "ntu25").output
    assert "25 joints, 24 bones" in output
    assert "root spine_shoulder" in output
    assert "part hands (13): spine_shoulder, left_shoulder" in output
    assert "source: NTU RGB+D" in output


def test_check_warns_and_fails(tmp_path: Path) -> None:
    assert "coco17: good; 17 joints" in invoke("check", "coco17", "hand21").output
    assert "checks are off" in invoke("check", "ntu25_published").output
    odd = tmp_path / "odd.yaml"
    odd.write_text("joints: [a, left_b, right_b]\nbones: {left_b: a, right_b: left_b}\nmirror: names\n")
    assert "warning:" in invoke("check", str(odd)).output
    odd.write_text("joints: [a, b]\nbones: {b: c}\n")
    with pytest.raises(UserError, match=r"odd.yaml:2: unknown joint 'c'"):
        invoke("check", str(odd))


def test_map() -> None:
    output = invoke("map", "penn13", "jhmdb15").output
    assert "mean of left_shoulder, right_shoulder" in output
    assert "missing: none" in output


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_draw(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="extra viz not installed")
    picture = tmp_path / f"x.{ending}"
    invoke("draw", "ntu25", "-o", str(picture), "--part", "hands")
    assert picture.stat().st_size > 2000


def test_draw_refuses_other_endings(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="extra viz not installed")
    with pytest.raises(UserError, match="no picture format"):
        invoke("draw", "hand21", "-o", str(tmp_path / "x.doc"))
