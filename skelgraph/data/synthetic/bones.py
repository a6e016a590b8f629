"""Any bone tree articulated: motion for a topology that the body model does not know, such as an octopus or a hand.

Each class is a joint program made from its number alone: which branches of the tree move, in the plane of the drawing
or out of it, all at once or one after the other, as a wave along the branch or stiffly, how often.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from skelgraph.data.synthetic.beat import Beat
from skelgraph.data.synthetic.body import Anchor
from skelgraph.data.synthetic.kinematics import Array, chain, rotations, smooth_noise
from skelgraph.topology import Topology

HEIGHT = 1.6


class Tree:
    """The bones of a topology as rigid segments, laid out as the topology is drawn, ``HEIGHT`` metres high.

    Args:
        topology: of the joints.
        riders: further points, numbered after the joints, each at metres from a joint in the frame of its bone.
    """

    def __init__(self, topology: Topology, riders: Sequence[Anchor] = ()) -> None:
        self.topology = topology
        self._carriers = [topology.index(rider.segment) for rider in riders]
        self._places = np.array([rider.offset for rider in riders]).reshape(-1, 3)
        self.parents = [int(parent) for parent in topology.parents]
        self.depth = np.asarray(topology.depth)

    @cached_property
    def rest(self) -> tuple[Array, Array]:
        """Bone vectors (V, 3), zero for a root, and where the roots are (V, 3)."""
        drawn = self.topology.coordinates(3).astype(np.float64)
        drawn *= HEIGHT / max(float(np.ptp(drawn[:, :2], axis=0).max()), 1e-6)
        own = np.arange(len(self.parents)) == self.parents
        bones = drawn - drawn[self.parents]
        length = np.linalg.norm(bones, axis=1)
        least = 0.02 * HEIGHT
        turn = 2.4 * np.arange(len(bones))
        spread = np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1) * least * 2
        bones[~own & (length < least)] = spread[~own & (length < least)]
        return np.where(own[:, None], 0.0, bones), np.where(own[:, None], drawn, 0.0)

    @cached_property
    def branches(self) -> Array:
        """(V,) number of the branch a joint is on: branches begin where the trunk of the tree first forks."""
        children = [
            [child for child, parent in enumerate(self.parents) if parent == joint != child]
            for joint in range(len(self.parents))
        ]
        branch = np.zeros(len(self.parents), dtype=int)
        count = 0
        for joint in np.argsort(self.depth, kind="stable"):
            above = self.parents[joint]
            forked = above == joint or (branch[above] == branch[self.parents[above]] == 0 and len(children[above]) > 1)
            if above != joint:
                count += int(forked)
                branch[joint] = count if forked else branch[above]
        return branch

    def move(self, label: int, beat: Beat, rng: np.random.Generator, lengths: Array, gain: float = 1.0) -> Array:
        """Joints and riders (T, V + riders, 3) of one performance of class ``label``, metres.

        ``lengths`` (V,) are factors on the bones, ``gain`` one on the angles.
        """
        frames = len(beat.time)
        bones, roots = self.rest
        bones = bones * lengths[:, None]
        flat, deep = self._angles(label, beat)
        idle = smooth_noise(rng, frames, 2 * len(bones), 45.0).reshape(frames, 2, -1).transpose(1, 2, 0) * 0.05
        flat, deep = gain * flat + idle[0], gain * deep + idle[1]
        across = bones / np.maximum(np.linalg.norm(bones, axis=1, keepdims=True), 1e-9)
        local = rotations(-across[:, 1:2] * deep, flat, across[:, :1] * deep)
        turned, origins = chain(self.parents, bones[self.parents], local)
        above = np.asarray(self.parents)
        offset = roots[[self._top(joint) for joint in range(len(above))]]
        joints = (turned @ bones[:, None, :, None])[..., 0] + origins + offset[:, None]
        carried = (turned[self._carriers] @ self._places[:, None, :, None])[..., 0] + joints[self._carriers]
        return np.concatenate([joints, carried]).transpose(1, 0, 2)

    def _top(self, joint: int) -> int:
        while self.parents[joint] != joint:
            joint = self.parents[joint]
        return joint

    def _angles(self, label: int, beat: Beat) -> tuple[Array, Array]:
        """Bend (V, T) of every bone in the plane of the drawing and out of it, radians."""
        plan = np.random.default_rng([label, 1987])
        kind, lag, hz = label % 4, (0.0, 0.14, 0.3)[label // 4 % 3], (0.55, 1.15)[label // 12 % 2]
        count = int(self.branches.max()) + 1
        active = plan.permutation(count) < max(1, round(count * plan.uniform(0.25, 0.9)))
        order = plan.permutation(count) / count * plan.choice((0.0, 0.5, 1.0))
        sign = plan.choice((-1.0, 1.0), count)
        reach = np.array([self.depth[self.branches == branch].max(initial=1) for branch in range(count)])
        size = (np.radians(plan.uniform(70, 130)) * active * sign / np.maximum(reach, 1))[self.branches]
        delay = order[self.branches] + lag * self.depth / max(int(self.depth.max()), 1) * 3
        phase = beat.angle(hz)[None] - 2 * np.pi * delay[:, None]
        wave = np.sin(phase) * size[:, None]
        if kind == 0:
            return wave, 0.15 * wave
        if kind == 1:
            return 0.15 * wave, wave
        if kind == 2:
            return wave, np.cos(phase) * size[:, None]
        curl = (1 - np.cos(phase)) * size[:, None] * 0.7
        return curl, 0.6 * curl
