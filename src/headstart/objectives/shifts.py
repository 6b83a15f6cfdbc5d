"""Random beginnings of clips within their first frame, so that a few clips are not learnt by heart.

A shift of a millisecond changes all front-end features of a clip, and without this setting a clip has the same ones in
every epoch. What it gains is in docs/results.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headstart.encoder.front_end import frame_stride, samples_for


class Shifts:
    """Draws how many samples of a clip are left out at its start.

    Args:
        count: places within the first frame at which a clip may begin; with 1, it begins at its first sample.
        config: of the encoder, which decides how long a frame is.
        seed: of the draws. The same clip has the same place in the same epoch, also when training is resumed.
    """

    def __init__(self, count: int, config: Any, seed: int):
        self.count, self.config, self.seed = count, config, seed
        self.stride = frame_stride(config)
        self.room = self.stride * (count - 1) // count  # the largest shift, in samples

    def draw(self, epoch: int, index: int, samples: int, frames: int = 1) -> int:
        """The shift of a clip in an epoch, in samples.

        Args:
            index: of the clip.
            samples: length of the clip.
            frames: how many must remain; the clip has at least so many.
        """
        if self.count == 1:
            return 0
        place = int(np.random.default_rng([self.seed, epoch, index]).integers(self.count))
        return max(0, min(place * self.stride // self.count, samples - samples_for(self.config, frames)))
