"""Demo data made by forward kinematics: see `write_demo` and `Demo`.

`body` is the body model, `points` its named points, `gestures`, `movements` and `classes` the joint-angle programs,
`style` what makes performances differ, `people` and `bones` the performers, `scene` camera and estimator, `figure`,
`pictures`, `inertial` and `sensors` what further sensors record of the same motion, `xor` sets whose label needs two
modalities, `generate` the data.
"""

from skelgraph.data.synthetic.actions import ACTIONS
from skelgraph.data.synthetic.beat import Beat
from skelgraph.data.synthetic.body import Body, Proportions
from skelgraph.data.synthetic.classes import PAIRS, class_names
from skelgraph.data.synthetic.generate import Demo, write_demo
from skelgraph.data.synthetic.xor import TASKS

__all__ = ["ACTIONS", "PAIRS", "TASKS", "Beat", "Body", "Demo", "Proportions", "class_names", "write_demo"]
