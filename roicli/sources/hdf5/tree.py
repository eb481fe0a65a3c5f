"""What an HDF5 file holds that could be pooled; runs in a child process."""

from __future__ import annotations

from collections import deque
from typing import Any

import h5py

from roicli.errors import FeatureError, RoicliError
from roicli.files import natural_key, printable, reading
from roicli.sources.base import check_map, is_poolable
from roicli.sources.choose import LISTED, Choice, are_maps, choose, is_beside, listing
from roicli.sources.hdf5.conventions import MATLAB_GROUPS, matlab_class
from roicli.sources.hdf5.virtual import shape_of
from roicli.sources.layout import MapLayout

# Opening a dataset takes some 50 microseconds, so that only this many members of a group, and of a file, are opened
# to see what they are. The rest of a larger group of maps is taken for maps until one is asked for.
_GROUP_SAMPLE = 1000
_FILE_SAMPLE = 10_000


def find_maps(file: Any, where: str, dataset: str | None, layout: MapLayout) -> Choice:
    """Choose the 4-D dataset or the group of 3-D datasets to read.

    Without `dataset` there must be exactly one of them in the file, or groups whose maps have names of their own: paths
    of images. A group given as `dataset` is taken if it holds 3-D datasets itself, else with all groups below it. A "*"
    in `dataset` stands for image ids. Only hard links are followed, so that no map comes
    from another file unnoticed.
    """
    if dataset is None:
        if one := _one_a_group(file["/"], layout):
            return one
        choices, rows = _survey(file["/"], layout)
        return _merged(file["/"], choices, rows) or choose(where, choices, rows, layout)
    if "*" in dataset and dataset not in file:
        return _by_pattern(file, where, dataset, layout)
    if dataset != printable(dataset):  # h5py looks up links by text only
        raise FeatureError(
            f"{where}: the name {printable(dataset)!r} is not UTF-8",
            "Rename it in the file, or name the group above it.",
        )
    link = file.get(dataset, getlink=True) if dataset.strip("/") else None
    if isinstance(link, h5py.ExternalLink):
        raise FeatureError(
            f"{where}: {dataset} is a link to {link.path} of {link.filename}", "Name that file and dataset instead."
        )
    item = file.get(dataset)
    if item is None and (found := _one_a_group(file["/"], layout, dataset)):
        return found
    if item is None:
        _, rows = _survey(file["/"], layout)
        raise FeatureError(f"{where} has no dataset {dataset!r}; it holds:\n{listing(rows)}", "Name another.")
    if set(MATLAB_GROUPS) & set(dataset.split("/")) or matlab_class(item) == "cell":
        raise FeatureError(
            f"{where}: {dataset} is of a MATLAB cell array, whose order the file keeps elsewhere",
            "Save one numeric array, in MATLAB by cat(4, cells{:}).",
        )
    if isinstance(item, h5py.Group):
        choices, rows = _survey(item, layout)
        own = [choice for choice in choices if choice.maps and choice.path == name_of(item)]
        merged = None if own else _merged(item, choices, rows, asked=True)
        return merged or choose(f"{where}, group {dataset}", own or choices, rows, layout)
    if not isinstance(item, h5py.Dataset):
        raise FeatureError(f"{where}: {dataset} is a datatype, not a dataset", "Name a dataset.")
    shape, dtype = shape_of(item, f"{where}, dataset {name_of(item)}"), item.dtype
    if layout.is_stack(shape):
        return Choice(name_of(item), None, "")
    check_map(f"{where}, dataset {name_of(item)}", shape, dtype, layout)
    return Choice(name_of(item.parent), (name_of(item).rpartition("/")[2],), "")


def _one_a_group(root: Any, layout: MapLayout, dataset: str | None = None) -> Choice | None:
    """Choose the map of this name in each group of a group, groups named by image id; any name that all share."""
    names, links = members(root)
    if len(names) < 2 or links or (dataset and "/" in dataset):
        return None
    for name in names[:_GROUP_SAMPLE]:
        group = root[raw(name)]
        if not isinstance(group, h5py.Group):
            return None
        inner = members(group)[0]
        if dataset is None:
            maps = [inside for inside in inner if _is_map(group[raw(inside)], inside, layout)]
            if len(maps) != 1:
                return None
            dataset = maps[0]
        if dataset not in inner or not _is_map(group[raw(dataset)], dataset, layout):
            return None
    return Choice(name_of(root), tuple(f"{name}/{dataset}" for name in names), "", tuple(names))


def _merged(root: Any, choices: list[Choice], rows: list[str], *, asked: bool = False) -> Choice | None:
    """Take the maps of several groups, named by their paths: names with "/" make groups.

    Groups of maps of the same names may be levels or layers: they are taken if the group above was asked for.
    """
    groups = [choice for choice in choices if choice.maps]
    if len(groups) < 2 or len(groups) < len(choices) or (rows and rows[0].startswith("(more than")):
        return None
    names = [name for choice in groups for name in choice.maps or ()]
    alone = {choice.maps for choice in groups if choice.maps and len(choice.maps) == 1}
    doubtful = groups[0].path == name_of(root) or (len(set(names)) < len(names) and len(alone) != 1)
    if doubtful and not asked:
        return None
    above = name_of(root).rstrip("/") + "/"
    paths = [f"{choice.path.rstrip('/')}/{name}".removeprefix(above) for choice in groups for name in choice.maps or ()]
    one = len(alone) == 1 and len(names) == len(groups)  # the group is the image
    ids = tuple(path.rpartition("/")[0] for path in paths) if one else None
    return Choice(name_of(root), tuple(paths), "", ids)


def _by_pattern(file: Any, where: str, pattern: str, layout: MapLayout) -> Choice:
    """Choose the maps that a pattern such as "*/features" or "train/*_features" names; "*" is their image id."""
    first, _, last = pattern.partition("*")
    above, _, start = first.rpartition("/")
    end, _, inner = last.partition("/")
    group = file.get(above) if above.strip("/") else file["/"]
    names = members(group)[0] if isinstance(group, h5py.Group) else []
    found = [name for name in names if name.startswith(start) and name.endswith(end) and len(name) > len(start + end)]
    maps = []
    for number, name in enumerate(found):
        if number < _GROUP_SAMPLE:
            item = group[raw(name)]
            if inner:
                item = item.get(inner) if isinstance(item, h5py.Group) else None
            if not _is_map(item, inner or name, layout):
                continue
        maps.append(name)
    if not maps:
        raise FeatureError(f"{where} holds no maps named {printable(pattern)!r}", "Name others by `dataset`.")
    ids = tuple(name[len(start) : len(name) - len(end)] for name in maps)
    return Choice(name_of(group), tuple(f"{name}/{inner}" if inner else name for name in maps), "", ids)


def _is_map(item: Any, name: str, layout: MapLayout) -> bool:
    """Tell whether something in a group is one map, or a batch of one."""
    if not isinstance(item, h5py.Dataset) or is_beside(name, layout):
        return False
    try:
        shape, dtype = shape_of(item, name_of(item)), item.dtype
    except (RoicliError, TypeError):
        return False
    return is_poolable(dtype) and (layout.is_map(shape) or (layout.is_stack(shape) and shape[0] == 1))


def _survey(root: Any, layout: MapLayout) -> tuple[list[Choice], list[str]]:
    """Walk the groups below `root`, nearest first: what could be chosen, and a row for everything seen."""
    choices: list[Choice] = []
    rows: list[str] = []
    pending, seen, opened, partly, unseen = deque([root]), set(), 0, False, False
    while pending and opened < _FILE_SAMPLE and (len(choices) <= LISTED or all(choice.maps for choice in choices)):
        group = pending.popleft()
        if _address(group) in seen:  # hard links may go round in circles
            continue
        seen.add(_address(group))
        names, links = members(group)
        # Many groups share what may be opened; the first ones must not take all of it.
        sample = min(_GROUP_SAMPLE, max(1, (_FILE_SAMPLE - opened) // (1 + len(pending))))
        partly |= len(names) > sample
        strangers = set()
        stacks: dict[str, tuple[tuple[int, ...], str]] = {}
        example = ""
        for name in names[:sample]:
            item = group[raw(name)]
            opened += 1
            if isinstance(item, h5py.Dataset):
                try:
                    shape, dtype = shape_of(item, name_of(item)), item.dtype
                except RoicliError as error:
                    rows.append(f"{error.message} (not looked at)")
                    strangers.add(name)
                    continue
                row = f"{shape} {dtype}" + (" (a MATLAB cell array)" if matlab_class(item) == "cell" else "")
                rows.append(f"{name_of(item)}  {row}")
                if is_beside(name, layout):
                    strangers.add(name)
                    continue
                if layout.is_map(shape) and is_poolable(dtype):
                    example = example or f"{name} {row}"
                    continue
                if layout.is_stack(shape) and is_poolable(dtype) and _address(item) not in seen:
                    seen.add(_address(item))
                    stacks[name] = shape, row
            elif isinstance(item, h5py.Group) and name in MATLAB_GROUPS:
                rows.append(f"{name_of(item)}  (what MATLAB cell arrays and objects refer to; not read)")
            elif isinstance(item, h5py.Group):
                pending.append(item)
            strangers.add(name)
        rows += [f"{name_of(group).rstrip('/')}/{name}  (a link, not followed)" for name in links]
        if not example and are_maps([shape for shape, _ in stacks.values()]):
            strangers -= stacks.keys()
            example = next(f"{name} {row}" for name, (_, row) in stacks.items())
        else:
            path = name_of(group).rstrip("/")
            choices += [Choice(f"{path}/{name}", None, row) for name, (_, row) in stacks.items()]
        unseen |= len(names) > sample and not example
        if example:
            maps = tuple(name for name in names if name not in strangers)
            choices.append(Choice(name_of(group), maps, f"{len(maps)} maps such as {example}"))
    if (pending and len(choices) <= LISTED) or (partly and not choices) or unseen:
        rows.insert(0, f"(more than {opened:,} objects, of which the others were not looked at: name one by `dataset`)")
    return choices, rows


def _address(item: Any) -> tuple[int, int]:
    """Tell a group or dataset from others without keeping it open, which takes memory for all of its path."""
    with reading(f"{printable(item.file.filename)}, dataset {name_of(item)}"):  # of which chunks are looked at too
        info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr


def members(group: Any) -> tuple[list[str], list[str]]:
    """Names of the hard links of a group, in natural order, and of its other links."""
    hard: list[str] = []
    others: list[str] = []

    def note(name: bytes, info: Any) -> None:
        names = hard if info.type == h5py.h5l.TYPE_HARD else others
        names.append(name.decode("utf-8", "surrogateescape"))

    group.id.links.iterate(note, info=True)
    return sorted(hard, key=natural_key), others


def raw(name: str) -> bytes:
    """Return the bytes of a name, by which h5py opens also what is not UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def name_of(item: Any) -> str:
    """Return the path of a group or dataset; bytes that are not UTF-8 are escaped as in file names (PEP 383)."""
    name: str | bytes = item.name  # bytes where h5py could not decode it
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
