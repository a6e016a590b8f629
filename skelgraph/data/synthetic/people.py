"""Performances by people: style, partners and bystanders, seen at the joints of any topology with a human body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from skelgraph.data.synthetic.beat import Beat, Program
from skelgraph.data.synthetic.body import Anchor, Body, Proportions
from skelgraph.data.synthetic.classes import grounded, programs
from skelgraph.data.synthetic.kinematics import Array
from skelgraph.data.synthetic.points import POINTS
from skelgraph.data.synthetic.scene import about_up
from skelgraph.data.synthetic.style import complete, fidget, follow, mirrored, occupy
from skelgraph.topology import Topology

BYSTANDERS = 0.3
FILL = 0.04
Who = tuple[int, ...]


def knows(topology: Topology) -> bool:
    """Whether the body model can play a topology: it knows half of the joints, and more than a hand or a face."""
    known = [POINTS[joint] for joint in topology.joints if joint in POINTS]
    limbs = {anchor.segment for anchor in known if anchor.segment.endswith(("_arm", "_forearm", "_thigh", "_shank"))}
    return len(known) * 2 >= len(topology.joints) and len(limbs) >= 2


def anchors(topology: Topology) -> list[Anchor]:
    """A place on the body for every joint.

    A name the body does not know rides a little beside its nearest relative in the bone tree.
    """
    found = {joint: POINTS[joint] for joint in topology.joints if joint in POINTS}
    links = [*topology.bones, *((parent, child) for child, parent in topology.bones), *topology.links]
    while len(found) < len(topology.joints):
        before = len(found)
        for joint, near in links:
            if joint not in found and near in found:
                found[joint] = _beside(found[near], len(found))
        if len(found) == before:
            lost = next(joint for joint in topology.joints if joint not in found)
            found[lost] = _beside(POINTS["mid_hip"], len(found))
    return [found[joint] for joint in topology.joints]


def _beside(anchor: Anchor, number: int) -> Anchor:
    """A point a little off another, in a direction of its own."""
    turn = 2.4 * number
    x, y, z = anchor.offset
    return Anchor(anchor.segment, (x + FILL * np.cos(turn), y - 0.3 * FILL, z + FILL * np.sin(turn)))


class People:
    """Performers of named actions, reduced to the joints of a topology and to what rides along with them.

    Args:
        topology: of the joints.
        riders: further points, numbered after the joints; where they are moves nothing else.
    """

    def __init__(self, topology: Topology, riders: Sequence[Anchor] = ()) -> None:
        self.joints = len(topology.joints)
        self.anchors = [*anchors(topology), *riders]
        self._body = lru_cache(maxsize=256)(self._make_body)

    def _make_body(self, who: Who) -> tuple[Body, Proportions]:
        proportions = Proportions.of(np.random.default_rng(who))
        return Body(self.anchors, proportions), proportions

    def perform(
        self, name: str, beat: Beat, rng: np.random.Generator, yaw: float, cast: Sequence[Who]
    ) -> tuple[Array, int]:
        """One performance of an action.

        Args:
            name: the class.
            beat: its clock.
            rng: for style, places and bystanders.
            yaw: where the first person looks, radians, 0 = towards +z.
            cast: a seed for the body of each person who may appear; the first acts.

        Returns:
            (M, T, V + riders, 3) metres in the world, centred, and which person acts.
        """
        actor, partner, distance = programs(name)
        if partner is None or len(cast) < 2:
            first = self._one(actor, beat, rng, cast[0], grounded(name)) @ about_up(yaw).T
            people = [first - _centre(first[:, : self.joints])]
        else:
            people = self._two(actor, partner, distance, beat, rng, yaw, cast)
        for who in cast[len(people) :]:
            if rng.random() < BYSTANDERS:
                people.append(self._bystander(beat, rng, who))
        order = rng.permutation(len(people))
        return np.stack([people[row] for row in order]), int(np.argmin(order))

    def _one(
        self, program: Program, beat: Beat, rng: np.random.Generator, who: Who, stands: bool,
        mirror: bool | None = None,
    ) -> Array:  # fmt: skip
        """(T, V, 3) one person at the origin looking along z."""
        frames = len(beat.time)
        gain = rng.uniform(0.65, 1.08)
        channels = {key: (gain * x, gain * y, gain * z) for key, (x, y, z) in program(beat).items()}
        pose = fidget(complete(occupy(channels, rng), frames), rng, 1.4)
        follow(pose)
        flip = rng.random() < 0.5
        if flip if mirror is None else mirror:
            pose = mirrored(pose)
        return self._body(who)[0].move(pose, frames, stands)

    def _two(
        self, actor: Program, partner: Program, distance: float, beat: Beat, rng: np.random.Generator, yaw: float,
        cast: Sequence[Who],
    ) -> list[Array]:  # fmt: skip
        """Two who face each other, seen rather from the side."""
        mirror = bool(rng.random() < 0.5)
        height = (self._body(cast[0])[1].height + self._body(cast[1])[1].height) / 2
        apart = distance * height / 1.72 * rng.uniform(0.92, 1.1)
        late = replace(beat, phase=beat.phase - rng.uniform(0, 0.04))
        view = about_up(yaw + (np.pi / 2 if rng.random() < 0.5 else -np.pi / 2))
        people = []
        for program, clock, who, turn in ((actor, beat, cast[0], 0.0), (partner, late, cast[1], np.pi)):
            body = self._one(program, clock, rng, who, True, mirror) @ about_up(turn).T
            people.append((body - (0, 0, apart / 2 * np.cos(turn))) @ view.T)
        return people

    def _bystander(self, beat: Beat, rng: np.random.Generator, who: Who) -> Array:
        """Somebody who only stands there, beside or behind."""
        body = self._one(lambda _: {}, beat, rng, who, True) @ about_up(rng.uniform(-np.pi, np.pi)).T
        place = (rng.choice((-1, 1)) * rng.uniform(0.9, 1.6), 0, -rng.uniform(0, 1.2))
        return body + np.array(place)


def _centre(joints: Array) -> Array:
    """Middle of a path over the floor, (3,) with y = 0."""
    middle = joints.mean((0, 1))
    return np.array([middle[0], 0.0, middle[2]])
