"""Operators whose bins have channels of their own, as the score maps of R-FCN: (C * PH * PW) channels become C."""

from __future__ import annotations

import numpy as np

from roicli.errors import FeatureError
from roicli.pooling.operators.base import Operator, Placed, not_finite
from roicli.pooling.sampling import FloatArray
from roicli.spec import PoolSpec

# Blocks of all channels are made so many values at a time.
_GROUP_VALUES = 2**20


class PositionSensitive(Operator):
    """Bin (ph, pw) of channel c reads channel ``(c * PH + ph) * PW + pw`` of the map."""

    def channels(self, channels: int, spec: PoolSpec) -> int:
        """Return how many channels there are for each bin.

        Raises
        ------
        FeatureError
            They cannot be shared out among the bins.
        """
        height, width = spec.output_size
        if channels % (height * width):
            raise FeatureError(
                f"{self.title} needs a multiple of {height} x {width} = {height * width} channels, got {channels:,}",
                "Give the output size of the network that made the maps.",
            )
        return channels // (height * width)

    def plane(self, channel: int, bin: tuple[int, int], spec: PoolSpec) -> int:
        """Return the channel of the map that a bin reads."""
        height, width = spec.output_size
        return (channel * height + bin[0]) * width + bin[1]


class Picked(Placed):
    """Regions that are pooled for all channels, from which each bin takes its own."""

    def __init__(self, placed: Placed, spec: PoolSpec) -> None:
        super().__init__(spec)
        self._placed = placed

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        """Pool all channels of some regions at a time."""
        height, width = self._spec.output_size
        whole = (feature_map.shape[2], height, width)
        step = max(1, _GROUP_VALUES // (feature_map.shape[2] * height * width))
        with self.blocks(out) as blocks:
            for begin in range(first, stop, step):
                end = min(begin + step, stop)
                made = np.empty((end - begin, *whole), out.dtype)
                self._placed.pool(feature_map, begin, end, made)
                self._placed.repair(feature_map, begin, end, made)
                own = made.reshape(end - begin, -1, height, width, height, width)
                blocks[begin - first : end - first] = np.einsum("kcpqpq->kcpq", own)

    def repair(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> int:
        """Count what is not finite: all is repaired by now."""
        return len(not_finite(out))

    def scatter(self, grad: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        """Put each bin into its own channel, and scatter these."""
        rois, channels, height, width = grad.shape
        for roi in range(rois):
            whole = np.zeros((1, channels, height, width, height, width), grad.dtype)
            np.einsum("kcpqpq->kcpq", whole)[...] = grad[roi]
            self._placed.scatter(whole.reshape(1, -1, height, width), first + roi, first + roi + 1, out)
