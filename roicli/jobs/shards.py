"""Parts of a job: which images belong to part I of N, and which part an array task of a batch system is.

A part is a run of images in the order in which the box file first names them, so that each part reads the features in
as few places as the whole job would. Part and images depend on nothing but the box file and N.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError

MAX_PARTS = 1_000_000
# Boxes that are looked at together, to save memory.
_AT_ONCE = 2**16

_FORMS = "Give `shard=2/10`, `shard=auto`, or `shard=auto/1-10` with the task numbers of the array."


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1.

    Examples
    --------
    >>> str(Shard(2, 10))
    '2/10'
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def recorded(cls, said: object) -> Shard | None:
        """Return the part that an output says it is; None if it says nothing of the kind."""
        found = re.fullmatch(r"(\d{1,7})/(\d{1,7})", str(said))
        shard = cls(int(found[1]), int(found[2])) if found else None
        return shard if shard and 1 <= shard.index <= shard.count <= MAX_PARTS else None


def parts_of(image_index: NDArray[np.integer], count: int) -> NDArray[np.int32]:
    """Find the part that each box belongs to.

    An image belongs to the part in whose share of all boxes its middle lies, so no part holds more than 1/N of the
    boxes and the largest image besides. With more parts than images some parts are empty.

    `image_index` (K,): image of each box, numbered in any way.
    `count`: how many parts there are (N).

    Returns
    -------
    (K,) int32
        From 1 to `count`.

    Examples
    --------
    >>> parts_of(np.array([7, 7, 3, 3, 7, 5]), 2).tolist()
    [1, 1, 2, 2, 1, 2]
    """
    number = len(image_index)
    if number and not 0 <= image_index.min() <= image_index.max() <= number:
        image_index = np.unique(image_index, return_inverse=True)[1]
    boxes = np.bincount(image_index)
    first = np.full(len(boxes), number)
    for stop in range(number, 0, -_AT_ONCE):  # backwards, so that the first box of an image is written last
        start = max(stop - _AT_ONCE, 0)
        first[image_index[start:stop][::-1]] = np.arange(stop - 1, start - 1, -1)
    by_appearance = np.argsort(first, kind="stable")
    twice_middle = 2 * np.cumsum(boxes[by_appearance]) - boxes[by_appearance]
    part = np.zeros(len(boxes), dtype=np.int32)
    part[by_appearance] = 1 + np.minimum(twice_middle * count // (2 * max(number, 1)), count - 1)
    parts: NDArray[np.int32] = part[image_index]
    return parts


def read_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """Read `I/N`, `auto`, or `auto/N` and `auto/FIRST-LAST` where the batch system does not tell the whole array.

    `text`: what the user gave.
    `environment`: variables of the process; for `auto` those of Slurm, Grid Engine and PBS are looked up.
    Raises UsageError: something else, or variables that do not say which part of how many this is.

    Examples
    --------
    >>> read_shard("2/10", {})
    Shard(index=2, count=10)
    >>> read_shard("auto/0-9", {"PBS_ARRAY_INDEX": "1"})
    Shard(index=2, count=10)
    """
    found = re.fullmatch(r"(?:(\d{1,7})|(auto))(?:/(?:(\d{1,7})-)?(\d{1,7}))?", text.strip().lower())
    if not found or (found[1] and (found[3] or not found[4])):
        raise UsageError(f"`shard` must be I/N, auto or auto/FIRST-LAST, got {text!r}", _FORMS)
    if found[1]:
        return _checked(text, int(found[1]), int(found[4]))
    if not found[4]:
        return _checked(text, *_whole_array(environment))
    first, last = int(found[3] or 1), int(found[4])
    name, task = _task(environment)
    if not first <= task <= last:
        raise UsageError(
            f"`shard={text}`: {name} is {task}, expected {first} to {last}",
            "Give the task numbers that the batch system has, such as `shard=auto/0-9`.",
        )
    return _checked(text, task - first + 1, last - first + 1)


def _checked(text: str, index: int, count: int) -> Shard:
    if not 1 <= index <= count <= MAX_PARTS:
        raise UsageError(
            f"`shard={text}`: part {index} of {count} does not exist",
            f"Count parts from 1 to N; N is at most {MAX_PARTS:,}.",
        )
    return Shard(index, count)


# Variables that number an array's tasks: of Slurm, Grid Engine and PBS; and those of the first, last and step of all.
_TASKS = ("SLURM_ARRAY_TASK_ID", "SGE_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID")
_RANGES = {
    "SLURM_ARRAY_TASK_ID": ("SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP"),
    "SGE_TASK_ID": ("SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE"),
}


def _task(environment: Mapping[str, str]) -> tuple[str, int]:
    """Find the one variable that says which task this is, and its value."""
    # Grid Engine sets "undefined" in jobs that are not arrays.
    names = [name for name in _TASKS if environment.get(name, "undefined") != "undefined"]
    if not names:
        raise UsageError(
            f"`shard=auto`: this is not an array task of Slurm, Grid Engine or PBS: none of {', '.join(_TASKS)} is set",
            "Submit it as an array, or name the part: `shard=2/10`.",
        )
    if len({environment[name] for name in names}) > 1:
        raise UsageError(f"`shard=auto`: {' and '.join(names)} are set and differ", "Name the part: `shard=2/10`.")
    return names[0], _number(names[0], environment)


def _whole_array(environment: Mapping[str, str]) -> tuple[int, int]:
    """Which task of how many this is, as Slurm and Grid Engine tell."""
    name, task = _task(environment)
    if name not in _RANGES:
        raise UsageError(
            f"`shard=auto`: PBS says that this is task {task} ({name}), but not of how many tasks",
            "Give the task numbers as in qsub -J or -t: `shard=auto/1-10`, or `shard=auto/0-9`.",
        )
    first, last, step = (
        _number(one, environment, missing) for one, missing in zip(_RANGES[name], (None, None, 1), strict=True)
    )
    # SGE_TASK_LAST is the end of the range as it was given, which steps need not meet.
    tasks = (last - first) // max(step, 1) + 1
    if name == "SLURM_ARRAY_TASK_ID":
        tasks = _number("SLURM_ARRAY_TASK_COUNT", environment)
    if step < 1 or task < first or (task - first) % step or (last - first) // max(step, 1) + 1 != tasks:
        raise UsageError(
            f"`shard=auto`: task {task} does not fit {tasks} tasks from {first} to {last}, step {step}",
            "Submit one range of tasks, or name the whole range: `shard=auto/1-10`.",
        )
    return (task - first) // step + 1, tasks


def _number(name: str, environment: Mapping[str, str], missing: int | None = None) -> int:
    value = environment.get(name, "" if missing is None else str(missing))
    if not re.fullmatch(r"\d{1,9}", value):
        raise UsageError(f"`shard=auto`: {name} must be a number, got {value!r}", "Name the part: `shard=2/10`.")
    return int(value)
