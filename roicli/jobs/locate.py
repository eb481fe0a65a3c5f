"""Find where the regions of a job lie: look up sizes of images, say what was done to them, place the boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError, FeatureError, FileError, UsageError
from roicli.jobs.geometry import Array, Geometry, Located
from roicli.jobs.imageids import some
from roicli.jobs.imagesizes import WHERE_SIZES, Images, original_sizes, sizes_listed
from roicli.jobs.mapsizes import disagreement, infer_stride
from roicli.jobs.match import Inputs
from roicli.jobs.preprocess import ImageTransform
from roicli.jobs.pyramid import Pyramid, place_on_levels
from roicli.pooling.placement import Placement, place
from roicli.sources import MapInfo
from roicli.sources.layout import layout_of
from roicli.sources.tokens import TokenSource
from roicli.stores.path import path_of
from roicli.words import count


def locate(geometry: Geometry, inputs: Inputs, infos: dict[int, MapInfo], note: Callable[[str], None]) -> Located:
    """Find where the regions of some inputs lie.

    Raises RoicliError: sizes that are needed and not known, files that cannot be read, maps whose sizes do not agree.
    """
    table, map_index = inputs.table, inputs.map_index
    used = np.array(sorted(infos))
    image = np.minimum(np.searchsorted(used, map_index), len(used) - 1)
    map_sizes = np.array([infos[index].shape[1:] for index in used.tolist()], np.float64)
    images, listed = _images(inputs, used, image)
    sizes = original_sizes(images, listed, geometry.image_size, note)
    with_boxes = np.bincount(image[map_index >= 0], minlength=len(used)) > 0
    transform = _transform(geometry, images, sizes, with_boxes)
    stated, scale = geometry.is_stated, geometry.scale
    told = geometry.preprocess is not None or geometry.image_size is not None
    unknown = np.isnan(sizes).any(axis=1) & with_boxes
    by_image = not (geometry.normalized and (unknown.any() or not with_boxes.any()))
    if told and not by_image and with_boxes.any():
        raise _missing(images, unknown)
    lacking = "sizes of images are"
    input_sizes = sizes if transform is None else transform.input_sizes
    if geometry.normalized and by_image and not stated:
        stride = infer_stride(
            input_sizes[with_boxes], map_sizes[with_boxes], 32 if transform is None else transform.multiple
        )
        if stride is not None:
            note(f"stride {stride} follows from the sizes of images and maps (`stride` says otherwise)")
            stated, scale = True, (1 / stride, 1 / stride)
        elif told:
            raise UsageError(
                "boxes in 0..1 of the image need the stride of the maps", "Give `stride`, such as `stride=16`."
            )
        else:
            by_image, lacking = False, "stride of the maps is"
    warnings: list[str] = []
    unit = sizes if geometry.normalized else None
    if not by_image:
        unit, transform, scale = map_sizes, None, (1.0, 1.0)
        if with_boxes.any():
            warnings.append(
                f"{table.source}: the {lacking} not known, so boxes in 0..1 are taken of the maps, which may cover "
                "more than the image; give `image_size` and `stride`"
            )
    elif (told or stated) and with_boxes.any():

        def judge(as_stored: Array) -> tuple[str, str]:
            return disagreement(inputs.source.name, images.names, sizes, transform, as_stored, with_boxes, scale)

        text, hint = judge(map_sizes)
        if text and geometry.size_check:
            if inputs.layout != "tokens" and not judge(other_sizes(inputs, infos))[0]:
                hint = f"If the maps are stored the other way, give `layout={layout_of(inputs.layout).other.name}`."
            raise FeatureError(text, hint)
        warnings += [text] * bool(text)
    nowhere = place(map_index, table.boxes)
    located = Located(nowhere, table.boxes, image, sizes, map_sizes, unit, transform, scale, tuple(warnings))
    return located._replace(placement=located.place(table.boxes))


def settle_grids(geometry: Geometry, inputs: Inputs, patch: int | None, note: Callable[[str], None]) -> None:
    """Find the grids of sequences of tokens by the sizes of the network's inputs, and tell `note` how they are taken.

    Raises RoicliError: sizes that are not known, sequences without a grid.
    """
    source, used = inputs.source, inputs.maps_used() or [0]
    if not isinstance(source, TokenSource) or not len(source):
        return
    if patch is not None:
        source.grids = _grids_of_inputs(geometry, inputs, np.array(inputs.maps_used(), np.intp), patch)
    if source.layout.grid is not None and source.layout.prefix is not None:
        return
    length, taken = source.reading(used[0])
    why = ""
    if source.layout.grid is None and patch is None and not source.has_grids:
        why = ", the only square after 0 to 5 prefix tokens" if source.layout.prefix is None else ", a square"
    note(f"{length:,} tokens of {source.name} are taken as {taken}{why}")


def _grids_of_inputs(
    geometry: Geometry, inputs: Inputs, used: NDArray[np.intp], patch: int
) -> dict[int, tuple[int, int]]:
    if not len(used):
        return {}
    images, listed = _images(inputs, used, np.minimum(np.searchsorted(used, inputs.map_index), len(used) - 1))
    sizes = original_sizes(images, listed, geometry.image_size, lambda note: None)
    transform = _transform(geometry, images, sizes, np.ones(len(used), np.bool_))
    input_sizes = sizes if transform is None else transform.input_sizes
    unknown = np.asarray(np.isnan(input_sizes).any(axis=1))
    if unknown.any():
        raise _missing(images, unknown)
    cells = (input_sizes // patch).astype(int).tolist()
    return {index: (height, width) for index, (height, width) in zip(used.tolist(), cells, strict=True)}


def other_sizes(inputs: Inputs, infos: dict[int, MapInfo]) -> Array:
    """Return the sizes that maps would have if they were stored the other way."""
    shapes = np.array([infos[index].shape for index in sorted(infos)], np.float64)
    return np.column_stack(layout_of(inputs.layout).other_shape((*shapes.T,))[1:])


def locate_on_levels(
    geometry: Geometry,
    pyramid: Pyramid,
    inputs: Inputs,
    infos: dict[int, MapInfo],
    dtype: np.dtype[Any],
    note: Callable[[str], None],
) -> tuple[Located, tuple[Placement, ...]]:
    """Find where the regions of some inputs lie, also on the levels of a pyramid.

    Raises RoicliError: see `locate`; a scale beside the strides of levels.

    Returns
    -------
    Located
        On the level of each region; on the first one, if all levels are combined.
    tuple of Placement
        On each level, if all are combined.
    """
    levels = inputs.source.levels
    if not levels:
        return locate(geometry, inputs, infos, note), ()
    if geometry.is_stated:
        raise UsageError(
            "`spatial_scale` and `stride` are for features of one level",
            "Leave them out: the strides of `levels` say it.",
        )
    finest = {index // len(levels): info for index, info in infos.items() if index % len(levels) == 0}
    try:
        located = locate(replace(geometry, stride=levels[0].stride), inputs, finest, note)
    except FeatureError as error:  # whose hint is of a stride
        hint = "Check the strides of `levels`, and what `preprocess` says. `size_check=False` pools all the same."
        raise FeatureError(f"level {levels[0].name}: {error.message}", hint) from None
    if located.unit is located.map_sizes:  # boxes in 0..1 of the maps; the finest map stands for the input
        stride = levels[0].stride
        located = located._replace(unit=located.map_sizes * stride, scale=(1 / stride, 1 / stride))
        located = located._replace(placement=located.place(located.given))
    placements = place_on_levels(located.placement, levels, pyramid, dtype)
    return located._replace(placement=placements[0]), placements


def _images(inputs: Inputs, used: NDArray[np.intp], image: NDArray[np.intp]) -> tuple[Images, Array | None]:
    """Name the image of each map that is used, as the box file does if it does; and what that says of their sizes."""
    table, source = inputs.table, inputs.source
    rows = np.flatnonzero(inputs.map_index >= 0)
    if table.image_ids is None or table.image_index is None or not len(rows):
        return Images([source.ids[index] for index in used.tolist()], None, table.source), None
    first = np.zeros(len(used), np.intp)
    first[image[rows[::-1]]] = rows[::-1]
    number = table.image_index[first]
    names, aliases = (
        [said[index] for index in number.tolist()] if said else None for said in (table.image_ids, table.aliases)
    )
    assert names is not None
    return Images(names, aliases, table.source), sizes_listed(table, number)


def _transform(
    geometry: Geometry, images: Images, sizes: Array, with_boxes: NDArray[np.bool_]
) -> ImageTransform | None:
    if geometry.preprocess is None:
        return None
    named = geometry.named()
    if named is None:
        return _from_file(path_of(geometry.preprocess), images, sizes, with_boxes)
    entry, numbers = named
    unknown = np.isnan(sizes).any(axis=1)
    if entry.whole and geometry.normalized:
        sizes[unknown] = 1  # the unit square stands for any image
    elif entry.needs_sizes and (unknown & with_boxes).any():
        raise _missing(images, unknown & with_boxes)
    with np.errstate(invalid="ignore"):
        transform = entry.make(sizes, *numbers)
    return transform if entry.needs_sizes else _keep_places(transform)


def _keep_places(transform: ImageTransform) -> ImageTransform:
    """Return the transform of images that are padded on the right and below only, also for those of unknown size."""
    ones = np.ones(len(transform.rx))
    return ImageTransform(ones, ones, ones * 0, ones * 0, transform.input_sizes, transform.multiple)


def _from_file(path: Path, images: Images, sizes: Array, with_boxes: NDArray[np.bool_]) -> ImageTransform:
    """Read rx, ry, px, py of each image, or the size of its input."""
    from roicli.boxfiles.imagetable import INPUT_SIZE, read_image_table

    table = read_image_table(path)
    line = images.find(table)
    if (missing := np.flatnonzero((line < 0) & with_boxes)).size:
        raise BoxError(
            f"{table.source} lacks {count(len(missing), 'image')} of {len(images):,}: "
            f"{some([images.names[index] for index in missing.tolist()])}",
            "Give it a line for each image that has boxes.",
        )
    columns = {name: np.where(line >= 0, values[line], np.nan) for name, values in table.columns.items()}
    known = table._replace(columns=columns)
    if (own := known.sizes()) is not None:
        sizes[:] = np.where(np.isnan(sizes), own, sizes)
    zeros = np.zeros(len(images))
    px, py = (np.nan_to_num(columns.get(name, zeros)) for name in ("px", "py"))
    input_sizes = known.sizes(INPUT_SIZE)
    if {"rx", "ry"} <= {*columns}:
        rx, ry = columns["rx"], columns["ry"]
        if input_sizes is None:
            whole = np.rint(sizes * np.stack([ry, rx], axis=1))
            input_sizes = np.where(((px == 0) & (py == 0))[:, None], whole, np.nan)
    elif input_sizes is not None:
        if (unknown := np.isnan(sizes).any(axis=1) & with_boxes).any():
            raise _missing(images, unknown)
        ry, rx = (input_sizes / sizes).T
    else:
        raise FileError(
            f"{table.source}: neither rx, ry nor input_height, input_width among {', '.join(table.columns)}",
            "Give the columns image_id, rx, ry, px, py, or image_id, input_height, input_width.",
        )
    if (bad := np.isnan(rx + ry) & with_boxes).any():
        raise BoxError(
            f"{table.source}: no numbers for {some([images.names[index] for index in np.flatnonzero(bad).tolist()])}",
            "Fill these lines.",
        )
    return ImageTransform(rx, ry, px, py, input_sizes, 32)


def _missing(images: Images, missing: NDArray[np.bool_]) -> BoxError:
    names = [images.names[index] for index in np.flatnonzero(missing).tolist()]
    return BoxError(
        f"{images.source}: the sizes of {len(names):,} of {count(len(images), 'image')} are not known: {some(names)}",
        WHERE_SIZES,
    )
