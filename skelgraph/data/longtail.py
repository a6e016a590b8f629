"""Long-tailed training parts: how many clips each class keeps, which ones, and the protocol of a store that says so.

Letters: K classes, n_c training clips of class c, f = 1 / imbalance factor.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from skelgraph.data.longtail_lists import check_counts, check_nested, read_list, some
from skelgraph.data.schema import Meta
from skelgraph.data.store import PathLike, Store
from skelgraph.data.writer import check_splits
from skelgraph.errors import UserError, unknown

SHAPES = ("exp", "step")
LEFT_OUT = "left_out"


@dataclass(frozen=True)
class LongTail:
    """What became a protocol of a store.

    Attributes:
        name: of the protocol.
        classes: class names.
        counts: (K,) measured training clips of each class.
        parts: clips of each part.
        missing: names of a published list that are not in the store.
        remarks: what else its maker should know.
    """

    name: str
    classes: tuple[str, ...]
    counts: np.ndarray
    parts: Mapping[str, int]
    missing: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The same for people."""
        order = by_size(self.counts)
        sizes = ", ".join(f"{self.classes[c]} {self.counts[c]}" for c in order)
        parts = ", ".join(f"{part} {count}" for part, count in self.parts.items())
        ratio = f"largest over smallest {self.counts.max() / self.counts.min():.3g}"
        lines = [f"protocol '{self.name}': {parts}", f"training clips by class: {sizes}; {ratio}"]
        if self.missing:
            lines.append(f"{len(self.missing)} names of the list are not in the store: {some(self.missing)}")
        return [*lines, *self.remarks]


# ---- how many clips each class keeps ----------------------------------------------------------------------------


def class_sizes(classes: int, n_max: int, factor: float, shape: str = "exp") -> np.ndarray:
    """Clips of each class, from the head to the tail.

    ``exp``: n_c = floor(n_max f^(c / (K - 1))); ``step``: n_max for the first floor(K / 2) classes, floor(n_max f) for
    the others.

    Args:
        classes: K.
        n_max: clips of the first class.
        factor: of imbalance, n_max over the size of the last class.
        shape: ``exp`` or ``step``.

    Returns:
        (K,) int64, none larger than the one before.

    Raises:
        UserError: unknown shape, a factor below 1, fewer than two classes, or a class that would keep no clip.

    Source: Cui et al., CVPR 2019 (long-tailed CIFAR); the same rule made NTU-60-LT and NTU-120-LT (arXiv 2308.14024).
    """
    if shape not in SHAPES:
        raise unknown("shape", shape, SHAPES)
    if not 1 <= factor < math.inf:
        raise UserError(f"the imbalance factor is largest class over smallest, so 1 or more; got {factor:g}.")
    if classes < 2:
        raise UserError(f"a long tail needs two classes or more, got {classes}.")
    place = np.arange(classes)
    power = place / (classes - 1) if shape == "exp" else (place >= classes // 2).astype(np.float64)
    # A power that should give a whole number may come out just below it.
    sizes: np.ndarray = np.floor(n_max * (1 / factor) ** power + 1e-9).astype(np.int64)
    if sizes[-1] < 1:
        raise UserError(
            f"with {n_max} clips in the largest class and factor {factor:g} the smallest would keep no sample; "
            "choose a smaller factor or a larger n_max."
        )
    return sizes


def class_order(classes: int, seed: int | None) -> np.ndarray:
    """Classes from the head to the tail: by their numbers, or with a seed in random order."""
    return np.arange(classes) if seed is None else np.random.default_rng(seed).permutation(classes)


def subsample(labels: np.ndarray, rows: np.ndarray, sizes: np.ndarray, seed: int) -> np.ndarray:
    """So many rows of each class, drawn at random; with the same seed a smaller draw lies inside a larger one.

    Args:
        labels: (N,) class numbers of all clips.
        rows: those to choose from.
        sizes: (K,) rows wanted of each class.
        seed: of the choice.

    Returns:
        the chosen rows, sorted.
    """
    chosen = []
    for label, size in enumerate(sizes.tolist()):
        own = np.sort(rows[labels[rows] == label])
        chosen.append(np.random.default_rng([seed, label]).permutation(own)[:size])
    return np.sort(np.concatenate(chosen))


def class_counts(labels: np.ndarray, classes: Sequence[str], where: str) -> np.ndarray:
    """(K,) clips of each class; unlabelled ones do not count.

    Raises:
        UserError: a class has none.
    """
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    empty = [classes[c] for c in np.flatnonzero(counts == 0).tolist()]
    if empty:
        raise UserError(f"{where}: class '{empty[0]}' has no training clip{_others(empty, 'classes')}.")
    return counts


def by_size(counts: np.ndarray) -> np.ndarray:
    """Classes from the largest to the smallest; of two equal ones the lower number comes first."""
    return np.argsort(-np.asarray(counts), kind="stable")


def frequency_groups(counts: np.ndarray, many: int = 100, few: int = 20) -> dict[str, dict[str, np.ndarray]]:
    """Classes grouped by their training clips, by both rules in use; say which one a figure follows.

    ``thirds``: of the classes by size the first and the second floor(K / 3) are ``head`` and ``medium``, the rest is
    ``tail`` (BRL's tail). ``100/20``: ``many`` above 100 clips, ``few`` below 20, ``medium`` between.

    Args:
        counts: (K,) training clips of each class.
        many, few: the limits of the second rule, which is called after them.

    Returns:
        rule -> group -> class numbers, sorted; a group may be empty.
    """
    counts, third = np.asarray(counts), len(counts) // 3
    head, medium, tail = np.split(by_size(counts), [third, 2 * third])
    small, large = counts < few, counts > many
    return {
        "thirds": {name: np.sort(group) for name, group in (("head", head), ("medium", medium), ("tail", tail))},
        f"{many}/{few}": {
            "many": np.flatnonzero(large),
            "medium": np.flatnonzero(~large & ~small),
            "few": np.flatnonzero(small),
        },
    }


# ---- protocols --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """Where a long-tailed protocol goes: names of the protocol it starts from and of its own.

    Attributes:
        path: the store.
        protocol: the one to start from; None takes the only one.
        name: of the new one; None makes one up.
        overwrite: replace a protocol of that name.
    """

    path: PathLike
    protocol: str | None = None
    name: str | None = None
    overwrite: bool = False


def make_long_tail(
    target: Target, factor: float, *, shape: str = "exp", n_max: int | None = None, order_seed: int | None = None,
    seed: int = 0,
) -> LongTail:  # fmt: skip
    """Add a protocol whose training part is long-tailed; all other parts stay as they are.

    Args:
        target: store and names; the name made up is e.g. ``xsub_lt100``.
        factor, shape: see `class_sizes`.
        n_max: clips of the largest class; None takes the size of the smallest class, so that any order of the classes
            gives the same counts. With a larger one, a class that has too few clips for its place keeps all of them,
            and a remark says so: sizes then depend on the order, at its head.
        order_seed: of `class_order`; None keeps the numbers, which confounds size with kind of action.
        seed: which clips of a class stay.

    Raises:
        UserError: as `class_sizes`; no such protocol; a class without clip; classes so small that less than half of
            the imbalance is left.
    """
    store = Store.open(target.path)
    base = _base(store, target.protocol)
    parts = store.protocol(base)
    train, labels = parts["train"], store.labels
    there = class_counts(labels[train], store.classes, f"{target.path}: protocol '{base}'")
    largest = int(there.min()) if n_max is None else n_max
    sizes = np.zeros_like(there)
    sizes[class_order(len(there), order_seed)] = class_sizes(len(there), largest, factor, shape)
    kept = np.minimum(sizes, there)
    if kept.max() < factor / 2 * kept.min():
        raise UserError(f"{target.path}: with {largest} clips in the largest class the classes are too small, the "
                        f"imbalance would be {kept.max() / kept.min():.3g} instead of {factor:g}; choose a smaller "
                        "n_max.")  # fmt: skip
    remarks = tuple(f"class '{store.classes[c]}' keeps all of its {there[c]} clips, {sizes[c]} were wanted"
                    for c in np.flatnonzero(sizes > there).tolist())  # fmt: skip
    name = target.name or _made_up_name(base, factor, shape, order_seed, seed)
    settings = {"imbalance_factor": factor, "shape": shape, "n_max": largest, "class_order": order_seed, "seed": seed}
    return _add(store, target, base, name, subsample(labels, train, kept, seed), settings, remarks=remarks)


def from_list(target: Target, file: PathLike, *, strict: bool = False) -> LongTail:
    """Add a protocol whose training part is a published list of names; all other parts stay as they are.

    Where ``class_counts.json`` lies beside the list, the number of names of each class is checked against it, and where
    lists of other imbalance factors lie there (``..._10``, ``..._50``), that the smaller is within the larger.

    Args:
        target: store and names; the name made up is that of the file.
        file: text, one name a line, perhaps ``.gz``.
        strict: a name that is not in the store is an error; otherwise it is left out and reported.

    Raises:
        UserError: a damaged list, a listed clip that is no training clip, a class without clip, or as ``strict`` says.
    """
    path = Path(file)
    names = read_list(path)
    check_nested(path)
    store = Store.open(target.path)
    base = _base(store, target.protocol)
    place = {name: row for row, name in enumerate(store.names)}
    missing = tuple(name for name in names if name not in place)
    if missing and (strict or len(missing) == len(names)):
        raise UserError(f"{path}: {len(missing)} of {len(names)} names are not in {target.path}: {some(missing)}.")
    rows = np.sort(np.array([place[name] for name in names if name in place], dtype=np.int64))
    strange = np.setdiff1d(rows, store.protocol(base)["train"])
    if len(strange):
        raise UserError(f"{path}: {len(strange)} names are no training clips of protocol '{base}', e.g. "
                        f"'{store.names[strange[0]]}'; choose the protocol the list is made for.")  # fmt: skip
    check_counts(path, names, None if missing else store.labels[rows])
    name = target.name or path.name.split(".")[0]
    return _add(store, target, base, name, rows, {"list": path.name, "missing": len(missing)}, missing)


def _base(store: Store, protocol: str | None) -> str:
    """The protocol to start from."""
    name = protocol or (store.protocols[0] if len(store.protocols) == 1 else None)
    if name is None:
        raise UserError(f"{store.paths[0]}: has the protocols {', '.join(store.protocols)}; say which with --protocol.")
    if "train" not in store.protocol(name):
        raise UserError(f"{store.paths[0]}: protocol '{name}' has no part 'train'.")
    return name


def _made_up_name(base: str, factor: float, shape: str, order_seed: int | None, seed: int) -> str:
    """``BASE_ltFACTOR``, then what differs from the usual."""
    further = ["step"] if shape == "step" else []
    further += [] if order_seed is None else [f"order{order_seed}"]
    further += [] if seed == 0 else [f"seed{seed}"]
    return "_".join([base, f"lt{factor:g}", *further])


def _add(
    store: Store, target: Target, base: str, name: str, train: np.ndarray, settings: Mapping[str, Any],
    missing: tuple[str, ...] = (), remarks: tuple[str, ...] = (),
) -> LongTail:  # fmt: skip
    """Make parts of a choice of training clips and put them into the store."""
    parts = store.protocol(base)
    where = f"{store.paths[0]}: protocol '{name}'"
    if name == base:
        raise UserError(f"{where} is the one to start from; choose another --name.")
    counts = class_counts(store.labels[train], store.classes, where)
    parts |= {"train": train, LEFT_OUT: np.setdiff1d(parts["train"], train)}
    names = {part: [store.names[row] for row in rows] for part, rows in parts.items() if len(rows)}
    step = {"name": "longtail", "protocol": name, "from": base, **settings, "counts": counts.tolist()}
    add_protocol(store.paths[0], name, names, step, target.overwrite)
    return LongTail(name, store.classes, counts, {p: len(rows) for p, rows in names.items()}, missing, remarks)


def left_out_validation(
    labels: np.ndarray, groups: Sequence[str | None], train: np.ndarray, left: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """Left-out clips to validate on: of each class the share that it would give if nothing were left out.

    So validation is about as balanced as the data were before, and training loses no clip. None of the chosen shares
    its recording with a training clip; a class of which too little is left out gives what there is, perhaps nothing.

    Args:
        labels: (N,) class numbers of all clips.
        groups: (N,) names of recordings, None where a clip is one by itself.
        train, left: rows of the training part, and of what was left out of it.
        fraction: share of each class, of ``train`` and ``left`` together; one clip at least.
        seed: of the choice.

    Returns:
        the chosen rows, sorted.
    """
    seen = {groups[row] for row in train.tolist()} - {None}
    free = left[[groups[row] not in seen for row in left.tolist()]]
    both = np.concatenate([train, left])
    counts = np.bincount(labels[both][labels[both] >= 0])
    wanted = np.where(counts > 0, np.maximum(1, np.round(fraction * counts)), 0).astype(np.int64)
    return subsample(labels, free, wanted, seed)


def add_protocol(
    path: Path, name: str, parts: Mapping[str, Sequence[str]], step: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Put a protocol into a store whose clips stay as they are.

    Args:
        path: the store.
        name: of the protocol; one of that name with the same parts is left alone.
        parts: clip names of each part.
        step: how it was made, for ``meta.json``.
        overwrite: replace another one of that name.

    Raises:
        UserError: a name that is taken, a clip that is not there, or one that is in train and elsewhere.
    """
    splits = json.loads((path / "splits.json").read_text(encoding="utf-8"))
    plain = check_splits({name: parts}, set(Store.open(path).names), str(path))[name]
    if splits.get(name) == plain:
        return
    if name in splits and not overwrite:
        raise UserError(f"{path}: has another protocol '{name}'; choose another --name or say --overwrite.")
    meta = Meta.read(path / "meta.json")
    meta.steps = [old for old in meta.steps if old.get("protocol") != name] + [dict(step)]
    meta.content_hash = blake2b(json.dumps([meta.content_hash, name, plain]).encode(), digest_size=16).hexdigest()
    _replace(path / "splits.json", json.dumps({**splits, name: plain}))
    _replace(path / "meta.json", meta.model_dump_json(indent=1))


def _replace(path: Path, text: str) -> None:
    """Write a file that is old or new, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from None
    finally:
        temporary.unlink(missing_ok=True)


def _others(names: Sequence[str], what: str) -> str:
    return f" (nor have {len(names) - 1} other {what})" if len(names) > 1 else ""
