"""What to compute: the settings of RoIAlign that change numbers, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from roicli.errors import UsageError

Mode = Literal["avg", "max"]
Reduce = Literal["none", "mean"]

MAX_OUTPUT_SIDE = 1024
MAX_SAMPLING_RATIO = 1024


@dataclass(frozen=True)
class PoolSpec:
    """Settings of one pooling operation; hashable, picklable, checked when made.

    Attributes
    ----------
    output_size : (int, int)
        Bins of the pooled block: height PH, width PW.
    sampling_ratio : int
        Sample points per bin along each axis; 0 or less means adaptive, ``ceil(RoI side / bins)``.
    aligned : bool
        Shift boxes by half a cell, as detectron2 does, so that a cell's value lies at its centre.
    mode : {"avg", "max"}
        What a bin is of its interpolated samples.
    reduce : {"none", "mean"}
        "mean" averages the bins too: one vector of C channels a RoI.
    op : str
        Name of the operator; see `roicli.pooling.operators`, which also checks that it has these settings.

    Raises
    ------
    UsageError
        A setting out of its range; the message names it.

    Examples
    --------
    >>> PoolSpec((7, 7), aligned=True).adaptive
    True
    """

    output_size: tuple[int, int]
    sampling_ratio: int = -1
    aligned: bool = False
    mode: Mode = "avg"
    reduce: Reduce = "none"
    op: str = "roi_align"

    def __post_init__(self) -> None:
        if not all(1 <= side <= MAX_OUTPUT_SIDE for side in self.output_size):
            raise UsageError(
                f"output size {self.output_size[0]} x {self.output_size[1]} is out of range",
                f"Give a height and a width of 1 to {MAX_OUTPUT_SIDE} bins.",
            )
        if self.sampling_ratio > MAX_SAMPLING_RATIO:
            raise UsageError(
                f"sampling ratio {self.sampling_ratio} is out of range",
                f"Give 1 to {MAX_SAMPLING_RATIO} samples per bin and axis, or -1 for the adaptive count.",
            )
        if self.mode not in get_args(Mode):
            raise UsageError(f"mode {self.mode!r} is unknown", "Give 'avg' or 'max'.")
        if self.reduce not in get_args(Reduce):
            raise UsageError(f"reduce {self.reduce!r} is unknown", "Give 'none' or 'mean'.")

    @property
    def adaptive(self) -> bool:
        """Whether the number of samples follows from the size of each RoI."""
        return self.sampling_ratio <= 0

    @property
    def pooled_size(self) -> tuple[int, int]:
        """Height and width of the block that is written: (1, 1) where the bins are averaged away."""
        return (1, 1) if self.reduce == "mean" else self.output_size

    def row_shape(self, channels: int) -> tuple[int, ...]:
        """Return the shape of one RoI's result: (C, PH, PW), or (C,) where the bins are averaged away."""
        return (channels,) if self.reduce == "mean" else (channels, *self.output_size)
