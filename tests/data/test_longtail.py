"""Long-tailed protocols: sizes by the formula, choices that nest, stores that keep their clips, published lists."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sample_clips import random_clip

from skelgraph.cli.data import command
from skelgraph.data import Store, StoreWriter
from skelgraph.data.longtail import (
    Target,
    add_protocol,
    class_order,
    class_sizes,
    frequency_groups,
    from_list,
    make_long_tail,
    subsample,
)
from skelgraph.data.longtail_lists import read_list
from skelgraph.engine.clips import StageClips
from skelgraph.errors import UserError
from skelgraph.methods.resampling import RESAMPLING, tail_classes
from skelgraph.recipe import DataConfig, ProtocolConfig

CLASSES = ("run", "jump", "sit", "wave")
PUBLISHED = {
    ("NTU60", "xsub"): (600, 60, (14142, 9150, 7892)),
    ("NTU60", "xview"): (600, 60, (14142, 9150, 7892)),
    ("NTU120", "xsub"): (600, 120, (28182, 18137, 15600)),
    ("NTU120", "xset"): (400, 120, (18771, 12069, 10378)),
}
FACTORS = (10, 50, 100)
SUBJECTS_60 = {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}
SUBJECTS_120 = SUBJECTS_60 | {45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85,
                              86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """20 training clips a class (the last has 24), recorded in pairs, and 4 test clips."""
    path = tmp_path / "store"
    with StoreWriter(path, topology="coco17", dims=2, classes=CLASSES) as writer:
        names = []
        for label, count in enumerate((20, 20, 20, 24)):
            for i in range(count):
                names.append(f"{CLASSES[label]}{i}")
                writer.write(random_clip(names[-1], label=label, group=f"{label}-{i // 2}"))
        for label in range(4):
            writer.write(random_clip(f"test{label}", label=label))
        test = [f"test{label}" for label in range(4)]
        writer.protocols = {"main": {"train": names, "test": test, "test_clean": test[:2]}, "other": {"train": test}}
    return path


# ---- formula --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_max", "classes", "totals"), [*PUBLISHED.values(), (100, 10, (403,))])
def test_sizes_of_the_published_lists(n_max: int, classes: int, totals: tuple[int, ...]) -> None:
    for factor, total in zip(FACTORS, totals, strict=False):
        sizes = class_sizes(classes, n_max, factor)
        assert sizes.sum() == total
        assert sizes[0] == n_max
        assert sizes[-1] == n_max // factor
        assert (np.diff(sizes) <= 0).all()


def test_first_and_last_sizes() -> None:
    sizes = class_sizes(60, 600, 100).tolist()
    assert sizes[:5] == [600, 554, 513, 474, 439]
    assert sizes[-5:] == [8, 7, 7, 6, 6]
    assert class_sizes(10, 100, 10).tolist() == [100, 77, 59, 46, 35, 27, 21, 16, 12, 10]


def test_step_shape_and_balance() -> None:
    assert class_sizes(5, 30, 10, "step").tolist() == [30, 30, 3, 3, 3]
    assert class_sizes(3, 30, 1).tolist() == [30, 30, 30]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((4, 20, 0.5), "the imbalance factor is largest class over smallest, so 1 or more; got 0.5"),
        ((4, 20, float("nan")), "1 or more; got nan"),
        ((4, 20, 50), "with 20 clips in the largest class and factor 50 the smallest would keep no sample"),
        ((1, 20, 5), "two classes or more"),
        ((4, 20, 5, "steps"), "unknown shape 'steps'"),
    ],
)
def test_sizes_that_make_no_sense(settings: tuple[int, int, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        class_sizes(*settings)


def test_totals_of_the_published_epochs() -> None:
    """Invariant 12: 98 106, 195 257 and 130 103 draws; a tail class at most n_c fewer than repeat * n_max."""
    oversample = RESAMPLING.create("tail", repeat=5)
    for n_max, classes, total in ((600, 60, 98_106), (600, 120, 195_257), (400, 120, 130_103)):
        sizes = class_sizes(classes, n_max, 100)
        labels = np.repeat(np.arange(classes), sizes)
        drawn = np.bincount(labels[oversample(labels, sizes, 7, 3)])
        assert drawn.sum() == total
        tail = tail_classes(sizes)
        assert tail.tolist() == list(range(2 * (classes // 3), classes))
        assert (drawn[tail] <= 5 * n_max).all()
        assert (drawn[tail] >= 5 * n_max - sizes[tail]).all()
        assert (np.delete(drawn, tail) == 5 * np.delete(sizes, tail)).all()


# ---- groups ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_max", "classes", "groups"),
    [
        (600, 60, ((46, 14, 0), (27, 25, 8), (23, 21, 16))),
        (600, 120, ((93, 27, 0), (55, 49, 16), (47, 41, 32))),
        (400, 120, ((72, 48, 0), (42, 50, 28), (36, 42, 42))),
    ],
)
def test_groups_of_the_published_lists(n_max: int, classes: int, groups: tuple[tuple[int, ...], ...]) -> None:
    for factor, expected in zip(FACTORS, groups, strict=True):
        found = frequency_groups(class_sizes(classes, n_max, factor))
        assert tuple(len(group) for group in found["100/20"].values()) == expected
        assert {name: len(group) for name, group in found["thirds"].items()} == dict.fromkeys(
            ("head", "medium", "tail"), classes // 3
        )


def test_groups_go_by_size_and_agree_with_the_sampler() -> None:
    counts = np.array([5, 300, 19, 100, 101, 20, 5])
    groups = frequency_groups(counts)
    assert {name: group.tolist() for name, group in groups["100/20"].items()} == {
        "many": [1, 4], "medium": [3, 5], "few": [0, 2, 6],
    }  # fmt: skip
    assert {name: group.tolist() for name, group in groups["thirds"].items()} == {
        "head": [1, 4], "medium": [3, 5], "tail": [0, 2, 6],
    }  # fmt: skip
    assert groups["thirds"]["tail"].tolist() == tail_classes(counts).tolist()
    assert list(frequency_groups(counts, 50, 10)) == ["thirds", "50/10"]


# ---- protocols ------------------------------------------------------------------------------------------------------


def counts_of(path: Path, protocol: str) -> list[int]:
    store = Store.open(path)
    return np.bincount(store.labels[store.protocol(protocol)["train"]], minlength=4).tolist()


def unread(facts: os.stat_result) -> tuple[int, ...]:
    """What a file is known by, without the time it was last read."""
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def test_protocol_is_added_and_the_rest_stays(store: Path) -> None:
    shard = unread((store / "clips-00000.arrow").stat())
    before = Store.open(store)
    made = make_long_tail(Target(store, "main"), 10)
    after = Store.open(store)
    assert made.name == "main_lt10"
    assert counts_of(store, "main_lt10") == made.counts.tolist() == [20, 9, 4, 2]
    old, new = before.protocol("main"), after.protocol("main_lt10")
    assert new["test"].tolist() == old["test"].tolist()
    assert new["test_clean"].tolist() == old["test_clean"].tolist()
    assert sorted([*new["train"], *new["left_out"]]) == old["train"].tolist()
    assert "val" not in new
    assert after.protocol("main")["train"].tolist() == old["train"].tolist()
    assert unread((store / "clips-00000.arrow").stat()) == shard
    assert after.meta.content_hash != before.meta.content_hash
    step = after.meta.steps[-1]
    assert (step["name"], step["protocol"], step["counts"]) == ("longtail", "main_lt10", [20, 9, 4, 2])
    assert not [path for path in store.iterdir() if path.name.startswith(".")]


def test_larger_factors_nest_and_seeds_differ(store: Path) -> None:
    for factor in (2, 5, 10):
        make_long_tail(Target(store, "main"), factor)
    make_long_tail(Target(store, "main"), 5, seed=1)
    rows = {name: set(Store.open(store).protocol(name)["train"].tolist()) for name in Store.open(store).protocols}
    assert rows["main_lt10"] < rows["main_lt5"] < rows["main_lt2"] < rows["main"]
    assert rows["main_lt5_seed1"] != rows["main_lt5"]
    assert counts_of(store, "main_lt5_seed1") == counts_of(store, "main_lt5")


def test_class_order_moves_the_head(store: Path) -> None:
    made = make_long_tail(Target(store, "main"), 10, order_seed=3)
    assert made.name == "main_lt10_order3"
    order = class_order(4, 3)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert order.tolist() != [0, 1, 2, 3]
    assert made.counts[order].tolist() == [20, 9, 4, 2]


def test_small_classes_keep_what_they_have(store: Path) -> None:
    """Beyond the smallest class the head is cut to what exists; the tail has its size."""
    made = make_long_tail(Target(store, "main"), 10, n_max=22)
    assert made.counts.tolist() == [20, 10, 4, 2]
    assert "class 'run' keeps all of its 20 clips, 22 were wanted" in made.lines()
    assert made.lines()[1].endswith("wave 2; largest over smallest 10")
    with pytest.raises(UserError, match=r"the imbalance would be 1.2 instead of 10; choose a smaller n_max"):
        make_long_tail(Target(store, "main"), 10, n_max=400)


def test_left_out_clips_validate_and_never_train(store: Path) -> None:
    make_long_tail(Target(store, "main"), 10)
    opened = Store.open(store)
    split, groups = opened.protocol("main_lt10"), opened.groups
    for share, counts in ((0.1, [0, 2, 2, 2]), (0.3, [0, 4, 6, 7])):
        protocol = ProtocolConfig(selection="holdout", validation=share)
        clips = StageClips(DataConfig(store=str(store), protocol="main_lt10"), protocol, opened.topology, 0)
        for labelled in (True, False):
            plain, held = (clips.parts(labelled=labelled, holdout=holdout) for holdout in (False, True))
            assert plain.train.tolist() == held.train.tolist() == split["train"].tolist()
            assert len(plain.val) == 0
            assert set(held.val.tolist()) <= set(split["left_out"].tolist())
            assert not {groups[i] for i in held.train} & {groups[i] for i in held.val}
        # Every clip of the first class trains, and the second leaves two recordings untouched.
        assert np.bincount(opened.labels[held.val], minlength=4).tolist() == counts


def test_a_validation_part_of_its_own_is_not_added_to_a_thinned_training_part(store: Path) -> None:
    names = {
        part: [Store.open(store).names[i] for i in rows] for part, rows in Store.open(store).protocol("main").items()
    }
    add_protocol(store, "own", {**names, "train": names["train"][4:], "val": names["train"][:4]}, {})
    make_long_tail(Target(store, "own"), 5)
    topology, sizes = Store.open(store).topology, {}
    for protocol in ("own", "own_lt5"):
        clips = StageClips(DataConfig(store=str(store), protocol=protocol), ProtocolConfig(), topology, 0)
        for holdout in (True, False):
            found = clips.parts(labelled=True, holdout=holdout)
            sizes[protocol, holdout] = len(found.train), len(found.val)
    assert sizes == {
        ("own", True): (80, 4),
        ("own", False): (84, 0),
        ("own_lt5", True): (33, 4),
        ("own_lt5", False): (33, 0),
    }


def test_same_again_is_fine_and_another_needs_overwrite(store: Path) -> None:
    make_long_tail(Target(store, "main", "lt"), 10)
    content = Store.open(store).meta.content_hash
    make_long_tail(Target(store, "main", "lt"), 10)
    assert Store.open(store).meta.content_hash == content
    with pytest.raises(UserError, match="has another protocol 'lt'; choose another --name or say --overwrite"):
        make_long_tail(Target(store, "main", "lt"), 5)
    make_long_tail(Target(store, "main", "lt", overwrite=True), 5)
    assert counts_of(store, "lt") == [20, 11, 6, 4]
    assert [step.get("protocol") for step in Store.open(store).meta.steps].count("lt") == 1
    with pytest.raises(UserError, match="is the one to start from"):
        make_long_tail(Target(store, "main", "main", overwrite=True), 5)


def test_mistakes(store: Path) -> None:
    with pytest.raises(UserError, match="has the protocols main, other; say which with --protocol"):
        make_long_tail(Target(store), 10)
    names = [name for name in Store.open(store).names if name.startswith(("run", "jump", "wave"))]
    (store.parent / "list.txt").write_text("\n".join(names))
    with pytest.raises(UserError, match="class 'sit' has no training clip"):
        from_list(Target(store, "main"), store.parent / "list.txt")


def test_unlabelled_clips_are_left_out() -> None:
    labels = np.array([0, -1, 1, 0, 1, -1])
    assert subsample(labels, np.arange(6), np.array([2, 1]), 0).tolist() in ([0, 2, 3], [0, 3, 4])


# ---- lists ----------------------------------------------------------------------------------------------------------


def write_list(path: Path, names: list[str]) -> Path:
    path.write_bytes(gzip.compress(("\n".join(names) + "\n").encode()))
    return path


def test_list_becomes_a_protocol(store: Path, tmp_path: Path) -> None:
    names = ["wave3", "run0", "run5", "jump1", "sit2"]
    file = write_list(tmp_path / "mine_exp_10.txt.gz", names)
    made = from_list(Target(store, "main"), file, strict=True)
    opened = Store.open(store)
    assert {opened.names[i] for i in opened.protocol("mine_exp_10")["train"]} == set(names)
    assert made.counts.tolist() == [2, 1, 1, 1]


def test_names_that_are_not_there_are_counted_and_named(store: Path, tmp_path: Path) -> None:
    file = write_list(tmp_path / "l.txt.gz", ["run0", "jump0", "sit0", "wave0", "x1", "x2", "x3", "x4"])
    made = from_list(Target(store, "main"), file)
    assert made.missing == ("x1", "x2", "x3", "x4")
    assert "4 names of the list are not in the store: x1, x2, x3 ..." in made.lines()
    with pytest.raises(UserError, match=r"4 of 8 names are not in .*: x1, x2, x3 \.\.\."):
        from_list(Target(store, "main"), file, strict=True)


def test_lists_that_do_not_fit(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 names are no training clips of protocol 'main', e\.g\. 'test0'"):
        from_list(Target(store, "main"), write_list(tmp_path / "a.txt.gz", ["run0", "jump0", "sit0", "wave0", "test0"]))
    with pytest.raises(UserError, match="'run0' stands there twice"):
        from_list(Target(store, "main"), write_list(tmp_path / "b.txt.gz", ["run0", "run0"]))
    (tmp_path / "c.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"c.txt.gz: cannot be read as a list of names"):
        from_list(Target(store, "main"), tmp_path / "c.txt.gz")
    with pytest.raises(UserError, match=r"none.txt: cannot be read"):
        from_list(Target(store, "main"), tmp_path / "none.txt")


def test_counts_and_nestedness_beside_a_list_are_checked(store: Path, tmp_path: Path) -> None:
    names = ["run0", "run1", "jump0", "sit0", "wave0"]
    file = write_list(tmp_path / "f_exp_10.txt.gz", names)
    published = tmp_path / "class_counts.json"
    published.write_text(json.dumps({file.name: [2, 1, 1, 1]}))
    from_list(Target(store, "main"), file)
    published.write_text(json.dumps({file.name: [1, 2, 1, 1]}))
    with pytest.raises(UserError, match="class 0 of the store has 2 of its clips and should have 1"):
        from_list(Target(store, "main", overwrite=True), file)
    published.write_text(json.dumps({file.name: [3, 1, 1, 1]}))
    with pytest.raises(UserError, match="damaged, it holds 5 names and should hold 6"):
        from_list(Target(store, "main", overwrite=True), file)
    published.unlink()
    write_list(tmp_path / "f_exp_50.txt.gz", ["run0", "sit1"])
    with pytest.raises(UserError, match=r"f_exp_50.txt.gz: damaged, sit1 should also stand in f_exp_10.txt.gz"):
        from_list(Target(store, "main", overwrite=True), file)


@pytest.mark.parametrize(("family", "expected"), PUBLISHED.items(), ids=lambda item: "_".join(map(str, item)))
def test_published_ntu_lists(
    shared: Callable[[str], Path], family: tuple[str, str], expected: tuple[int, int, tuple[int, ...]]
) -> None:
    """Invariant 11: sizes, nested per class as prefixes, no name twice, every name of the protocol's training part."""
    folder = shared("ntu_lt")
    published = json.loads((folder / "class_counts.json").read_text())
    lists = []
    for factor, total in zip(FACTORS, expected[2], strict=True):
        file = folder / f"{family[0]}_{family[1]}_exp_{factor}.txt.gz"
        names = read_list(file)
        assert len(names) == total
        action = Counter(int(name[-3:]) - 1 for name in names)
        counts = [action[c] for c in range(expected[1])]
        assert counts == class_sizes(expected[1], expected[0], factor).tolist() == published[file.name]
        by_class: dict[str, list[str]] = {}
        for name in names:
            assert re.fullmatch(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}", name)
            by_class.setdefault(name[-3:], []).append(name)
        lists.append(by_class)
    for smaller, larger in ((lists[2], lists[1]), (lists[1], lists[0])):
        assert all(larger[c][: len(names)] == names for c, names in smaller.items())
    names = [name for names in lists[0].values() for name in names]
    if family[1] == "xsub":
        assert {int(name[9:12]) for name in names} == (SUBJECTS_60 if family[0] == "NTU60" else SUBJECTS_120)
    if family[1] == "xview":
        assert {name[4:8] for name in names} == {"C002", "C003"}
    if family[1] == "xset":
        assert all(int(name[1:4]) % 2 == 0 for name in names)


def test_shipped_nwucla_list(shared: Callable[[str], Path]) -> None:
    """Only names and counts; the store itself is tested by the command in docs/longtail.md."""
    names = read_list(shared("ntu_lt") / "NWUCLA_exp_10.derived.txt.gz")
    counts = Counter(name[:3] for name in names)
    assert [counts[a] for a in sorted(counts)] == class_sizes(10, 100, 10).tolist()
    assert {name[-3:] for name in names} == {"v01", "v02"}


# ---- command --------------------------------------------------------------------------------------------------------


def test_command(store: Path) -> None:
    words = ["longtail", str(store), "--imbalance-factor", "4", "--shape", "step", "--protocol", "main",
             "--class-order", "1"]  # fmt: skip
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "protocol 'main_lt4_step_order1': train 50, test 4, test_clean 2, left_out 34" in done.output
    assert "20" in done.output
    with pytest.raises(UserError, match="give either --imbalance-factor or --list"):
        CliRunner().invoke(command, ["longtail", str(store)], catch_exceptions=False)
