"""The report page: complete, self-contained, honest about demo data and about what is not finished."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from skelgraph.data.clip import Clip
from skelgraph.engine import report, report_clips, report_parts
from skelgraph.engine.intervals import Answers
from skelgraph.engine.report_figures import Line, binned, extent, heat_map, line_chart, scatter, ticks
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError
from skelgraph.pages import skeletons
from skelgraph.topology import Topology

MakeRun = Callable[..., Run]
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements of a page; fails where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words += data + " "


def page_of(run: Run) -> Page:
    return Page(report.write(run).read_text(encoding="utf-8"))


def test_has_every_section(make_run: MakeRun) -> None:
    run = make_run()
    page = page_of(run)
    for words in (
        "DEMO DATA", "Generated motion, not people", "Top-1 accuracy", "not comparable", "91.8", "96 test clips",
        "split default, test", "Confusion", "Recall of each class", "fewer than 20", "Most confidently right",
        "Most confidently wrong", "Map of the features", "Resolved recipe", "2.13.0", "chosen step",
        "512\u202f340", run.about["command"], "Terms: free <to use>",
    ):  # fmt: skip
        assert words in page.words, words
    pictures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for attrs in pictures)
    assert sum(attrs.get("class") == "skeleton" for attrs in pictures) == 6


def test_needs_nothing_else_and_escapes_what_users_wrote(make_run: MakeRun) -> None:
    text = report.write(make_run()).read_text(encoding="utf-8")
    assert len(text) < 5_000_000
    assert not re.search(r"(https?:)?//[a-z]", text.replace("http-equiv", ""))
    assert not any(tag in ("link", "img", "iframe") or "src" in attrs for tag, attrs in Page(text).tags)
    assert "<left>" not in text
    assert "wave &lt;left&gt; &amp; smile" in text


def test_published_is_compared_on_real_data_only(make_run: MakeRun, plain_store: Path) -> None:
    run = make_run(demo=False, store=plain_store)
    page = page_of(run)
    assert "DEMO" not in page.words
    gap = run.metrics["test/mean_class"] - 91.8
    assert f"−{-gap:.1f}" in page.words
    assert "demo-run" not in {attrs.get("class") for _, attrs in page.tags}


def test_demo_store_is_named_even_when_the_run_does_not_say_demo(make_run: MakeRun) -> None:
    assert "DEMO DATA" in page_of(make_run(demo=False)).words


@pytest.mark.parametrize(
    "missing", ["everything", "scores.safetensors", "features.safetensors", "clips.csv", "metrics"]
)
def test_partly_finished_run(make_run: MakeRun, missing: str) -> None:
    run = make_run(finished=missing != "everything")
    if missing == "everything":
        (run.stage("pretrain").path / "metrics.csv").write_text("step,figure,value\n9,train_loss,0.5\n19,tra")
        assert "not finished" in page_of(run).words
        return
    stage, name = ("finetune", "metrics.csv") if missing == "metrics" else ("test", missing)
    (run.stage(stage).path / name).unlink()
    assert "Top-1 accuracy" in page_of(run).words


def test_says_why_there_are_no_skeletons(make_run: MakeRun, demo_store: Path, wide_store: Path, tmp_path: Path) -> None:
    gone = make_run(folder="gone")
    recipe = gone.recipe
    recipe["data"]["store"] = str(tmp_path / "nowhere")
    (gone.path / "recipe.json").write_text(json.dumps(recipe))
    assert "No skeletons" in page_of(gone).words
    recipe["data"]["store"] = str(wide_store)
    names = (gone.stage("test").path / "clips.csv").read_text().replace("test_", "other_")
    (gone.stage("test").path / "clips.csv").write_text(names)
    (gone.path / "recipe.json").write_text(json.dumps(recipe))
    assert "other clips than those that were tested" in page_of(gone).words


def test_many_classes(make_run: MakeRun, wide_store: Path) -> None:
    run = make_run(store=wide_store)
    page = page_of(run)
    assert "60 classes are too many to label" in page.words
    assert "others in grey" in page.words
    assert run.report.stat().st_size < 1_000_000


def test_motion_data_cannot_end_its_script(make_run: MakeRun) -> None:
    text = report.write(make_run()).read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" class="motion">(.*?)</script>', text)
    assert found is not None
    data = json.loads(found.group(1))
    assert len(data["clips"]) == 6
    assert all(len(frame) == 2 * 17 for clip in data["clips"] for frame in clip["frames"])
    assert max(len(clip["frames"]) for clip in data["clips"]) <= skeletons.FRAMES


def test_clips_are_chosen_by_confidence_from_different_classes() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]], np.float32)
    answers = Answers(tuple("abcd"), np.array([0, 0, 1, 0]), probabilities, np.arange(4))
    assert report_clips.chosen(answers, right=True) == [0, 2, 1]
    assert report_clips.chosen(answers, right=False) == [3]


@pytest.mark.parametrize(
    ("up", "dims", "turn"), [("+y", 3, (0, 1, 2)), ("+z", 3, (0, 2, 1)), ("-y", 2, None), (None, 2, None)]
)
def test_people_stand_upright(up: str | None, dims: int, turn: tuple[int, ...] | None) -> None:
    topology = Topology.load("coco17")
    body = np.zeros((1, 40, 17, dims), np.float32)
    body[..., :2] = topology.coordinates() + 3
    if dims == 2:
        body[..., 1] *= -1
    if turn is not None:
        body = body[..., turn]
    score = np.ones((1, 40, 17), np.float32)
    score[:, :, 16] = 0
    drawing = skeletons.draw(Clip("a", body, score), up)
    assert drawing.frames.shape == (32, 17, 2)
    nose, ankle = drawing.frames[0, topology.index("nose")], drawing.frames[0, topology.index("left_ankle")]
    assert nose[1] < ankle[1]
    assert (drawing.frames[:, 16] == -1).all()
    assert drawing.frames.max() <= 1000


def test_map_is_the_same_every_time_and_leaves_random_numbers_alone() -> None:
    features = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)) * torch.linspace(3, 0.1, 12)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, shares = report_parts.principal_plane(features)
    second, _ = report_parts.principal_plane(features)
    assert np.array_equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())
    exact = torch.linalg.svdvals(features - features.mean(0)) ** 2
    np.testing.assert_allclose(shares, (exact[:2] / exact.sum()).tolist(), rtol=1e-3)


def test_figures_hold_at_the_edges() -> None:
    Page(line_chart([Line("one", "c-val", [1], [0.0])], "a", "%"))
    Page(scatter(np.zeros((3, 2), np.float32), np.array([0, -1, 0]), ["a"], ("x", "y"), "b"))
    Page(heat_map(np.zeros((1, 1), np.int64), ["a & b"], "c"))
    assert extent([1.0] * 20 + [90.0]) == (1.0, 1.0, 90.0)
    assert extent([-1.0, 3.0]) == (-1.0, 3.0, None)
    assert extent([0.0, 0.0]) == (0.0, 0.0, None)
    assert "peak 90" in line_chart([Line("one", "c-val", list(range(21)), [90.0] + [1.0] * 20)], "a", "%")
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(2, 2)[0] <= 2 <= ticks(2, 2)[-1]
    x, y = binned(list(range(1000)), [1.0] * 1000, 100)
    assert len(x) == len(y) == 100
    assert y == [1.0] * 100


def test_damaged_file_is_a_plain_error(make_run: MakeRun) -> None:
    run = make_run()
    (run.stage("test").path / "done.json").write_text("{")
    with pytest.raises(UserError, match=r"done\.json"):
        report.write(run)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_script_draws_without_errors(make_run: MakeRun, tmp_path: Path) -> None:
    path = report.write(make_run())
    result = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'browser'}", "--window-size=390,9000",
         "--virtual-time-budget=1500", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert "CONSOLE" not in result.stderr
    assert re.search(r'<button type="button" class="play">(Pause|Play)</button>', result.stdout)
