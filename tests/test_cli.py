"""The command as a whole: verbs, quick help, and mistakes that end in one line and status 2."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from skelgraph.cli import main as entry
from skelgraph.cli.main import VERBS, cli

ROOT = Path(__file__).resolve().parent.parent


def test_help_lists_every_verb() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    for verb, text in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(text)}$", result.output, re.M), verb


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb: str) -> None:
    result = CliRunner().invoke(cli, [verb, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


@pytest.mark.parametrize(
    "words",
    [["--help"], ["recipe", "list"], ["recipe", "--help"], ["topology", "show", "coco17"], ["run", "--help"]],
    ids=" ".join,
)
def test_quick_verbs_do_not_import_torch(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "skelgraph.cli.main", *words], cwd=ROOT,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "click" in imported
    assert not imported & {"torch", "lightning", "torch_geometric", "dgl", "pyarrow", "numpy"} - (
        {"numpy"} if words[0] == "topology" else set()
    )


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The status `skelgraph WORDS` ends with."""
    monkeypatch.setattr("sys.argv", ["skelgraph", *words])
    try:
        entry.main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nothing"], "skelgraph: unknown recipe 'nothing'"),
        (["run", "skeletonmae_finegym"], "skelgraph: data/finegym: no data here."),
        (["run", "skeletonmae_finegym", "data.frame=3"], "unknown key 'frame'. Did you mean 'frames'?"),
        (["run", "skeletonmae_finegym", "data.frames"], "write key.sub=value"),
        (["run", "skeletonmae_finegym", "--demo", "--seeds", "0,x"], "write whole numbers with commas"),
        (["recipe", "check", "absent.yaml"], "skelgraph: unknown recipe 'absent.yaml'"),
        (["topology", "show", "coco71"], "Did you mean 'coco17'?"),
        (["topology", "check", "absent.yaml"], "skelgraph: unknown topology 'absent.yaml'"),
        (["data", "import", "finegm", "x.pkl", "y"], "Did you mean 'finegym'?"),
        (["data", "import", "finegym", "x.pkl", "y"], "skelgraph: x.pkl: no such file."),
        (["data", "info", "absent"], "no store there"),
        (["report", "absent"], "absent: no run here"),
        (["results", "absent"], "no run here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_said_in_plain_lines(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("skelgraph: ")
    assert len(err.splitlines()) <= 2
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "No such command 'rnu'"),
        (["data", "exprt"], "No such command 'exprt'"),
        (["run"], "Missing argument 'RECIPE'"),
        (["run", "skeletonmae_finegym", "--demmo"], "No such option"),
        (["run", "skeletonmae_finegym", "--seed", "x"], "not a valid integer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The status reaches the shell, and no traceback does."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from skelgraph.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "topology", "show", "absent"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("skelgraph: unknown topology 'absent'")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_ends_too_soon_is_no_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """click takes every EOFError for the end of what a user types."""

    def cut_off(**_: object) -> None:
        raise EOFError("Ran out of input")

    monkeypatch.setattr(cli.get_command(None, "doctor"), "callback", cut_off)  # type: ignore[arg-type]
    with pytest.raises(EOFError, match="Ran out of input"):
        run(monkeypatch, "doctor")


def test_doctor_names_the_backends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "doctor") == 0
    rows = capsys.readouterr().out.splitlines()
    states = {row[3:].split("  ")[0].strip(): row[:2] for row in rows}
    assert {"backend dense", "backend pyg", "backend dgl", "torch-scatter"} <= states.keys()
    assert states["backend dense"] == states["backend pyg"] == "ok"
    assert set(states.values()) <= {"ok", "--"}


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from skelgraph import __version__

    assert run(monkeypatch, "--version") == 0
    assert __version__ in capsys.readouterr().out
