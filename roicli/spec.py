"""What to compute: the settings of RoIAlign that change numbers, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from roicli.errors import UsageError

Mode = Literal["avg", "max", "weighted-max"]
"""Weighted-max is the maximum of the weighted cells of all samples, not of their sums, as ONNX defines it."""
Edge = Literal["clamp", "inside", "extend"]
Samples = Literal["ratio", "middle", "corners"]
Reduce = Literal["none", "mean", "max", "l2"]
MaskRule = Literal["coverage", "upsampled", "resize", "resize-antialias", "resize-any", "nearest"]
"""How the mask of a region weighs the cells of a map; see `roicli.pooling.masks`."""

MAX_OUTPUT_SIDE = 1024
MAX_SAMPLING_RATIO = 1024


@dataclass(frozen=True)
class Rule:
    """Where a convention differs from torchvision's in laying out bins along an axis; see `roicli.conventions`.

    Attributes
    ----------
    before : float
        Pixels added to both ends before the scale.
    end : float
        Pixels added to the end before the scale.
    corners_meet : bool
        The scale is (cells - 1) / (pixels - 1), so that the corner pixels of the image lie on the corner cells.
    least : bool, optional
        Whether a region spans at least one cell; by default it does unless aligned.
    floor : bool
        The adaptive count is rounded down instead of up; a bin may have no samples then, and is zero.
    samples : {"ratio", "middle", "corners"}
        By the sampling ratio; or one a bin, in its middle, or the first and the last on the ends of the region.
    edge : {"clamp", "inside", "extend"}
        Samples off the map: clamped up to one cell beyond it and then zero; zero beyond the outermost centres; or never
        zero: the last cell, and before the first the line through the first two.
    positive : bool
        A maximum is at least zero.
    """

    before: float = 0.0
    end: float = 0.0
    corners_meet: bool = False
    least: bool | None = None
    floor: bool = False
    samples: Samples = "ratio"
    edge: Edge = "clamp"
    positive: bool = False


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
    mode : {"avg", "max", "weighted-max"}
        What a bin is of its interpolated samples.
    reduce : {"none", "mean", "max", "l2"}
        What the bins become too: their mean, their maximum, or their mean scaled to length 1: a vector a RoI.
    op : str
        Name of the operator; see `roicli.pooling.operators`, which also checks that it has these settings.
    mask_rule : str
        How masks weigh cells, if the operator pools masks; see `roicli.pooling.masks`.
    rule : Rule, optional
        Where RoIAlign differs from torchvision's; by default nowhere.

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
    mask_rule: MaskRule = "coverage"
    rule: Rule | None = None

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
            raise UsageError(f"mode {self.mode!r} is unknown", f"Give {', '.join(map(repr, get_args(Mode)))}.")
        if self.reduce not in get_args(Reduce):
            raise UsageError(f"reduce {self.reduce!r} is unknown", "Give 'none', 'mean', 'max' or 'l2'.")
        if self.mask_rule not in get_args(MaskRule):
            raise UsageError(f"mask rule {self.mask_rule!r} is unknown", f"Give {', '.join(get_args(MaskRule))}.")

    @property
    def adaptive(self) -> bool:
        """Whether the number of samples follows from the size of each RoI."""
        return self.sampling_ratio <= 0

    @property
    def least(self) -> bool:
        """Whether a region spans at least one cell."""
        return not self.aligned if self.rule is None or self.rule.least is None else self.rule.least

    @property
    def pooled_size(self) -> tuple[int, int]:
        """Height and width of the block that is written: (1, 1) where the bins become one vector."""
        return self.output_size if self.reduce == "none" else (1, 1)

    def row_shape(self, channels: int) -> tuple[int, ...]:
        """Return the shape of one RoI's result: (C, PH, PW), or (C,) where the bins become one vector."""
        return (channels, *self.output_size) if self.reduce == "none" else (channels,)
