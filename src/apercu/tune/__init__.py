"""Search the settings that suit one's own images: preset, latent size, weights, width, learning rate.

tuning = Tuning(make_judge(open_images("photos"), labels=100, seed=0), Path("tuned"), minutes=30)
for trial in tuning.run(Budget(30)):
    print(trial)
print(tuning.best)
"""

from apercu.tune.judge import Judge, make_judge
from apercu.tune.outcome import conclude
from apercu.tune.run import Tried, Tuning
from apercu.tune.space import Choice

__all__ = ["Choice", "Judge", "Tried", "Tuning", "conclude", "make_judge"]
