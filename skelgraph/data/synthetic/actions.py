"""Named actions of one person, in the order in which demo data use them as classes."""

from __future__ import annotations

from skelgraph.data.synthetic import gestures, movements
from skelgraph.data.synthetic.beat import Program

ACTIONS: dict[str, Program] = {
    "wave": gestures.wave,
    "clap": gestures.clap,
    "punch": gestures.punch,
    "kick": movements.kick,
    "squat": movements.squat,
    "jump": movements.jump,
    "walk": movements.walk,
    "run": movements.run,
    "bow": movements.bow,
    "throw": gestures.throw,
    "drink": gestures.drink,
    "jumping_jack": movements.jumping_jack,
    "lunge": movements.lunge,
    "arm_circles": gestures.arm_circles,
    "sit_down": movements.sit_down,
    "stand_up": movements.stand_up,
    "side_bend": movements.side_bend,
    "pick_up": movements.pick_up,
    "push": gestures.push,
    "turn": movements.turn,
    "march": movements.march,
    "salute": gestures.salute,
    "cheer": gestures.cheer,
    "phone_call": gestures.phone_call,
    "stretch": gestures.stretch,
    "hop": movements.hop,
    "cross_arms": gestures.cross_arms,
    "point": gestures.point,
}
