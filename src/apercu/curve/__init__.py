"""Accuracy against the number of labels: did the unlabelled images help, and is it worth labelling more?

curve = Curve(open_images("photos"), Path("curve"))
for figure in curve.run(plan := curve.plan()):
    print(figure)
answer = conclude(curve, plan)
"""

from apercu.curve.methods import METHODS
from apercu.curve.outcome import conclude
from apercu.curve.run import Curve

__all__ = ["METHODS", "Curve", "conclude"]
