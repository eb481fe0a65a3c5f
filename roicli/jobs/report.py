"""What a job did, for people and for scripts."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any, NamedTuple

# Of what this process has waited for before it became ours: a shell that executes its last command.
_CHILDREN_BEFORE = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


class RunReport(NamedTuple):
    """The result of one job.

    Attributes
    ----------
    output : Path
        The file that was written.
    shape : tuple of int
        Shape of the features in it: (K, C, PH, PW) or (K, C).
    dtype : str
        Their dtype.
    boxes, images : int
        How many boxes of how many images were pooled.
    resumed : int
        How many of these boxes an earlier run had done.
    skipped, zeroed : tuple of int
        Rows of the box file left out of the output, or written as zeros, because the user said so.
    missing_images : int
        Images of the box file without features, whose boxes are among them.
    not_finite : int
        Rows with a NaN or an infinity, read from such cells of the features.
    overflowed : int
        Rows with numbers too large for the output's dtype, written as infinities.
    empty_masks : int
        Rows of zeros, since their masks reach no cell.
    seconds : float
        Wall time of the whole job.
    peak_memory : int
        Peak resident bytes of the largest process.
    strategy : str
        serial, threads or processes; or the class of another executor.
    workers : int
        How many worked at once.
    notes : tuple of str
        What was assumed, and what deserves a look.
    warnings : tuple of str
        What looks like a mistake.
    """

    output: Path
    shape: tuple[int, ...]
    dtype: str
    boxes: int
    images: int
    resumed: int
    skipped: tuple[int, ...]
    zeroed: tuple[int, ...]
    missing_images: int
    not_finite: int
    overflowed: int
    empty_masks: int
    seconds: float
    peak_memory: int
    strategy: str
    workers: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        return self._asdict() | {"output": str(self.output)}


def peak_memory() -> int:
    """Return the peak resident bytes of the largest of this process and those that it has started and waited for."""
    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # A larger one of a program that became this one is all that is known then.
    children = children if children > _CHILDREN_BEFORE else 0
    status = Path("/proc/self/status")
    if not status.exists():
        return max(children, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
    # Linux's ru_maxrss of a process counts what the program that started it had in memory; VmHWM does not.
    own = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return max(children * unit, int(own.split()[1]) * 1024)
