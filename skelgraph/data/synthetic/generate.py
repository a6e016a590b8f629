"""Demo data: clips of people (or of any bone tree) doing named things, a pure function of seed and clip number."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.longtail import LEFT_OUT, class_sizes, subsample
from skelgraph.data.schema import ModalityFacts
from skelgraph.data.synthetic import xor
from skelgraph.data.synthetic.beat import Beat
from skelgraph.data.synthetic.body import Anchor
from skelgraph.data.synthetic.bones import Tree
from skelgraph.data.synthetic.classes import class_names
from skelgraph.data.synthetic.figure import Figure, of_person, of_tree
from skelgraph.data.synthetic.kinematics import Array
from skelgraph.data.synthetic.people import People, knows
from skelgraph.data.synthetic.scene import IMAGE_SIZE, Camera, Observer, about_up
from skelgraph.data.synthetic.sensors import DTYPES, Sensors, facts
from skelgraph.data.writer import StoreWriter
from skelgraph.errors import UserError, unknown
from skelgraph.topology import Topology

SUBJECTS = 12
FPS = 30.0
CAMERAS = (-40.0, 0.0, 40.0)
SOURCE = "skelgraph demo data (synthetic)"
TERMS = "MIT, generated"
ACTIONS = "actions"


@dataclass(frozen=True)
class Demo:
    """A set of demo clips that are made when asked for.

    Attributes:
        topology: whose joints to report.
        classes: how many.
        frames: shortest and longest clip.
        persons: most persons in a clip; from two on there are actions of two, and bystanders.
        dims: 2 = pixels of a 1080 x 1920 image, y down; 3 = metres in the coordinates of a camera, y up.
        seed: of everything; clip ``i`` depends on nothing but ``seed`` and ``i``.
        noise: strength of the estimator's errors and of occlusion, and of noise in the modalities; 0 = none.
        modalities: rendered from the same motion, of ``rgb``, ``depth``, ``infrared`` and ``inertial``; joints are the
            same with and without them.

    Raises:
        UserError: a number that makes no sense.
    """

    topology: Topology
    classes: int = 16
    frames: tuple[int, int] = (40, 90)
    persons: int = 1
    dims: int = 2
    seed: int = 0
    noise: float = 1.0
    modalities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dims not in (2, 3):
            raise UserError(f"demo joints have 2 or 3 coordinates, not {self.dims}.")
        if not 2 <= self.frames[0] <= self.frames[1]:
            raise UserError(f"demo clips need at least 2 frames, from shortest to longest, not {self.frames}.")
        if self.persons < 1:
            raise UserError(f"demo clips need at least one person, not {self.persons}.")
        if self.classes < 1:
            raise UserError(f"demo data need at least one class, not {self.classes}.")
        for name in self.modalities:
            facts(name, FPS)
        if knows(self.topology):
            class_names(self.classes, self.persons)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Class names."""
        if self._people is None:
            return tuple(f"motion_{number:0{len(str(self.classes - 1))}d}" for number in range(self.classes))
        return class_names(self.classes, self.persons)

    @cached_property
    def _people(self) -> People | None:
        return People(self.topology, self._riders) if knows(self.topology) else None

    @cached_property
    def _tree(self) -> Tree:
        return Tree(self.topology, self._riders)

    @cached_property
    def _figure(self) -> Figure:
        return of_person(len(self.topology)) if knows(self.topology) else of_tree(self.topology)

    @property
    def _riders(self) -> tuple[Anchor, ...]:
        return self._figure.riders if self.modalities else ()

    @cached_property
    def _observer(self) -> Observer:
        return Observer(self.topology)

    def label(self, index: int) -> int:
        """Class of a clip."""
        return index % self.classes

    def subject(self, index: int) -> int:
        """Who performs a clip; runs through all subjects within a class, so a split by subject has every class."""
        return (index // self.classes + index % self.classes) % SUBJECTS

    def tested(self, index: int) -> bool:
        """Whether a clip is in the test part: that of every third subject."""
        return self.subject(index) % 3 == 1

    def clip(self, index: int) -> Clip:
        """Clip number ``index``."""
        rng = np.random.default_rng([self.seed, index])
        frames = int(rng.integers(self.frames[0], self.frames[1] + 1))
        camera = int(rng.integers(len(CAMERAS)))
        yaw = np.radians(CAMERAS[camera] + rng.uniform(-20, 20))
        points, actor = self._perform(index, rng, frames, yaw)
        world = points[:, :, : len(self.topology)]
        extent = float(np.ptp(world[..., [0, 2]], axis=(0, 1, 2)).max()) - 0.8
        view = Camera.of(rng, max(0.0, extent))
        seen = view.see(world)
        if self.dims == 2:
            seen = view.project(seen)
        reports = [self._observer.report(joints, rng, self.noise) for joints in seen]
        sensors = Sensors(self.modalities, self._figure, FPS, self.noise)
        recorded = sensors.record(points, actor, view, np.random.default_rng([self.seed, index, 2]))
        subject = self.subject(index)
        return Clip.of(
            f"demo_{index:06d}",
            np.stack([joints for joints, _ in reports]),
            np.stack([score for _, score in reports]),
            label=self.label(index),
            fps=FPS,
            image_size=IMAGE_SIZE if self.dims == 2 else None,
            subject=f"s{subject:02d}",
            camera=f"c{camera}",
            group=f"s{subject:02d}_take{index // (self.classes * SUBJECTS)}",
            modalities=recorded,
        )

    def _perform(self, index: int, rng: np.random.Generator, frames: int, yaw: float) -> tuple[Array, int]:
        """Joints and riders in the world, metres, the scene in the middle, seen from +z; and which person acts."""
        speed = float(np.exp(rng.uniform(np.log(0.65), np.log(1.5))))
        start, stop = rng.uniform(-0.5, 0.35, 2)
        beat = Beat(np.arange(frames) / FPS, speed, float(rng.random()), float(start), float(stop))
        subject = self.subject(index)
        if self._people is None:
            return np.stack([self._crawl(index, beat, rng, yaw, person) for person in range(self.persons)]), 0
        cast = [(self.seed, 1, subject + 100 * person) for person in range(self.persons)]
        return self._people.perform(self.names[self.label(index)], beat, rng, yaw, cast)

    def _crawl(self, index: int, beat: Beat, rng: np.random.Generator, yaw: float, person: int) -> Array:
        """One bone tree with its riders, several of them side by side."""
        lengths = np.random.default_rng([self.seed, 1, self.subject(index)]).normal(1, 0.07, len(self.topology))
        joints = self._tree.move(self.label(index), beat, rng, np.clip(lengths, 0.7, 1.3), rng.uniform(0.8, 1.1))
        middle = (0.0, 1.0, 0.0) - joints[:, : len(self.topology)].mean((0, 1))
        return (joints + middle) @ about_up(yaw).T + (1.4 * (person - (self.persons - 1) / 2), 0, 0)


def write_demo(
    dst: str | os.PathLike[str],
    topology: str | os.PathLike[str] | Topology = "coco17",
    clips: int = 480,
    classes: int = 16,
    frames: tuple[int, int] = (40, 90),
    persons: int = 1,
    dims: int = 2,
    seed: int = 0,
    protocols: Sequence[str] = ("demo",),
    imbalance_factor: float = 1.0,
    modalities: Sequence[str] = (),
    task: str = ACTIONS,
    overwrite: bool = False,
) -> Path:
    """Write a store of demo data; the same arguments give the same bytes.

    Args:
        dst: folder of the store.
        topology: name, file or `Topology`.
        clips: how many.
        classes, frames, persons, dims, seed, modalities: see `Demo`.
        protocols: names under which the one split (by subject, a third of them for test) is entered.
        imbalance_factor: of the training part, whose classes shrink along their numbers down to one clip; what they
            lose becomes the part ``left_out``.
        task: ``actions``; or a set whose label needs joints and one modality together, see `TASKS`: then classes,
            frames, persons and imbalance have no meaning, and ``modalities`` may name that one.
        overwrite: replace a store that is there.

    Returns:
        the folder.

    Raises:
        UserError: arguments that make no sense, or a store that is already there.
    """
    layout = Topology.load(topology)
    if task != ACTIONS:
        return _write_xor(dst, task, layout, clips, dims, seed, protocols, modalities, overwrite)
    demo = Demo(layout, classes, (frames[0], frames[1]), persons, dims, seed, modalities=tuple(modalities))
    if clips < 2:
        raise UserError(f"demo data need at least 2 clips, not {clips}: one to train, one to test.")
    settings = {"seed": seed, "clips": clips, "classes": classes, "frames": list(frames), "persons": persons}
    writer = StoreWriter(
        dst, topology=layout, dims=dims, classes=demo.names, units="pixels" if dims == 2 else "metres",
        up="-y" if dims == 2 else "+y", source=SOURCE, terms=TERMS, steps=[{"name": "synthesize", **settings}],
        modalities={name: DTYPES[name] for name in demo.modalities},
        modality_facts={name: ModalityFacts(**facts(name, FPS)) for name in demo.modalities},
        demo=True, overwrite=overwrite,
    )  # fmt: skip
    train = np.array([index for index in range(clips) if not demo.tested(index)], dtype=np.int64)
    kept = set(_long_tail(demo, train, imbalance_factor).tolist())
    split: dict[str, list[str]] = {"train": [], "test": []}
    with writer:
        for index in range(clips):
            clip = demo.clip(index)
            writer.write(clip)
            part = "test" if demo.tested(index) else "train" if index in kept else LEFT_OUT
            split.setdefault(part, []).append(clip.name)
        writer.protocols = dict.fromkeys(protocols, split)
    return Path(dst)


def _write_xor(
    dst: str | os.PathLike[str], name: str, topology: Topology, clips: int, dims: int, seed: int,
    protocols: Sequence[str], modalities: Sequence[str], overwrite: bool,
) -> Path:  # fmt: skip
    """Write a set whose label needs two modalities."""
    if name not in xor.TASKS:
        raise unknown("task of demo data", name, (ACTIONS, *xor.TASKS))
    task = xor.TASKS[name]
    for wanted in modalities:
        if wanted != task.modality:
            raise unknown("modality", wanted, (task.modality,), f"demo data of task '{name}'")
    if clips < 3 * xor.GROUP:
        raise UserError(f"demo data of task '{name}' need at least {3 * xor.GROUP} clips, not {clips}.")
    settings = {"seed": seed, "clips": clips, "task": name}
    writer = StoreWriter(
        dst, topology=topology, dims=dims, classes=xor.CLASSES, source=SOURCE, terms=TERMS,
        steps=[{"name": "synthesize", **settings}], modalities={task.modality: task.dtype},
        modality_facts={task.modality: ModalityFacts(**task.facts)}, demo=True, overwrite=overwrite,
    )  # fmt: skip
    split: dict[str, list[str]] = {"train": [], "test": []}
    with writer:
        for clip, tested in xor.clips(task, topology, dims, clips, seed):
            writer.write(clip)
            split["test" if tested else "train"].append(clip.name)
        writer.protocols = dict.fromkeys(protocols, split)
    return Path(dst)


def _long_tail(demo: Demo, train: np.ndarray, factor: float) -> np.ndarray:
    """The training clips that stay; a class has one at least."""
    labels = np.arange(train.max(initial=0) + 1) % demo.classes
    there = np.bincount(labels[train], minlength=demo.classes)
    sizes = class_sizes(demo.classes, int(there.max()), max(1.0, min(factor, float(there.max()))))
    return subsample(labels, train, np.minimum(sizes, there), demo.seed)
