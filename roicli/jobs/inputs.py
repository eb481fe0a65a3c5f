"""The inputs of jobs as Python callers open them, and the checks of what callers give."""

from __future__ import annotations

from roicli import boxfiles
from roicli.jobs.imagesizes import ImageSize, file_or_size
from roicli.jobs.options import BoxFormatName, PathLike, checked
from roicli.jobs.pyramid import Levels, Pyramid, open_maps
from roicli.jobs.readings import Layout, OverTime, Reading
from roicli.regions import Regions
from roicli.sources import FeatureSource
from roicli.sources.retyped import MapDtype
from roicli.sources.tokens import TokenOrder
from roicli.stores.path import path_of


def open_features(
    path: PathLike,
    *,
    dataset: str | None = None,
    layout: Layout = "chw",
    grid: tuple[int, int] | None = None,
    prefix: int | None = None,
    token_order: TokenOrder | None = None,
    time: OverTime | None = None,
    map_dtype: MapDtype | None = None,
    map_index: PathLike | None = None,
    levels: Levels | None = None,
) -> FeatureSource:
    """Open feature maps in files as a sequence.

    Parameters
    ----------
    path : path
        As `features` in `align`.
    dataset, layout, time, map_dtype, map_index, grid, prefix, token_order, levels
        As in `align`. The layout is taken as it is.

    Returns
    -------
    FeatureSource
        ``len(source)`` maps with their ``source.ids``; ``source.read(0)`` reads one as (C, H, W), whatever the
        layout of the file, and ``source.info(0)`` gives its shape and dtype. A pyramid has ``source.levels``, and map
        ``image * len(source.levels) + level``.

    Raises
    ------
    RoicliError
        A file that cannot be read, or that holds no feature maps.

    Examples
    --------
    >>> import pathlib, roicli, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "maps.npz"
    >>> np.savez(path, **{"000000000139": np.ones((8, 32, 24), np.float32)})
    >>> source = roicli.open_features(path)
    >>> source.ids, source.read(0).shape
    (('000000000139',), (8, 32, 24))
    """
    how = {"layout": layout, "token_order": token_order, "map_dtype": map_dtype, "map_index": map_index}
    reading = Reading(**checked(how), dataset=dataset, grid=grid, prefix=prefix, time=time)
    return open_maps(str(path_of(path)), reading, Pyramid(levels=levels), lambda note: None)


def read_regions(
    path: PathLike,
    *,
    box_format: BoxFormatName | None = None,
    boxes_as: str | None = None,
    image_size: ImageSize | None = None,
) -> Regions:
    """Read the boxes of a file.

    Parameters
    ----------
    path : path
        As `boxes` in `align`.
    box_format : {"xyxy", "xywh", "cxcywh"}, optional
        What the four numbers of a box mean; by default as the file says.
    boxes_as : str, optional
        Layout of the file, such as "coco" or "csv"; by default as its content says.
    image_size : path, str or (int, int), optional
        Sizes of images, for layouts that cannot be read without: VG-SGG, turned boxes of YOLO.

    Returns
    -------
    Regions
        `boxes` as (K, 4) xyxy in the file's order, with the image of each. NaN and inverted boxes are left in.

    Raises
    ------
    RoicliError
        A file that cannot be read, or that holds no boxes.

    Examples
    --------
    >>> import pathlib, roicli, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "boxes.json"
    >>> _ = path.write_text('[{"image_id": 139, "bbox": [10, 20, 30, 40]}]')
    >>> regions = roicli.read_regions(path)
    >>> regions.boxes.tolist(), regions.image_ids
    ([[10.0, 20.0, 40.0, 60.0]], ('139',))
    """
    form = checked({"box_format": box_format})["box_format"]
    return boxfiles.read_regions(path_of(path), form, boxes_as, file_or_size(image_size))
