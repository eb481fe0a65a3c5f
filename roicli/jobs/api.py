"""The commands as functions: the same names and defaults, reports instead of text, exceptions instead of exit codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any, Unpack

from roicli.jobs.align import align as run_align
from roicli.jobs.alignjob import AlignJob, align_job, check_job
from roicli.jobs.choose import Choice
from roicli.jobs.geometry import Geometry
from roicli.jobs.listener import Silent
from roicli.jobs.options import SPEC, TOLERANCE, AlignOptions, PathLike, PoolOptions
from roicli.jobs.pyramid import Pyramid
from roicli.jobs.readings import Reading
from roicli.jobs.report import RunReport
from roicli.pooling.team import usable_cores
from roicli.stores.path import path_of

if TYPE_CHECKING:  # each function loads what it runs: align, the main one, starts in a sixth of a second
    from roicli.jobs.answers import Identified
    from roicli.jobs.check import CheckReport
    from roicli.jobs.stream import Output
    from roicli.jobs.verify import VerifyReport


def align(features: PathLike, boxes: PathLike, output: PathLike, **options: Unpack[AlignOptions]) -> RunReport:
    """Pool the boxes of a file from feature maps in files, and write them: the command ``roicli align``.

    Row i of the output is box i of the box file. The job may be interrupted at any instant; the same call with
    ``resume=True`` continues it. Nothing is printed.

    Worker processes may start afresh. A script that calls this function must do so under
    ``if __name__ == "__main__":``, as all users of multiprocessing must. Notebooks need nothing.

    Parameters
    ----------
    features : path
        A file of ``roicli help formats``, a folder of .npy files named by image id, or a pattern: ``"feats/*.h5"``.
    boxes : path
        A file of any layout in ``roicli help formats``, a folder or a pattern of such files; "-" is standard input.
    output : path
        File to write; its ending says the format, such as .npy, .h5 or .zarr.
    dataset : str, optional
        Dataset or group that holds the maps, where a file holds several candidates.
    layout : {"chw", "hwc", "cwh", "whc", "tokens"}, optional
        How a map is stored: channels first or last; "cwh" or "whc" in MATLAB files, whose axes are reversed; or a
        sequence of ViT tokens. By default channels first; an array that may be tokens is refused then.
    grid : (int, int), optional
        Height and width of the tokens' grid in patches; by default a square, or what `patch` says.
    prefix : int, optional
        Tokens before the first patch: class token, registers; by default what the grid leaves, at most 5.
    token_order : {"raster", "merge-2x2"}, optional
        Order of the patches: line by line, or in blocks of 2 x 2 (Qwen-VL). By default line by line, and in blocks
        with unmerged grids named `grid_thw`.
    patch : int, optional
        Side of a patch in pixels: divides the sizes of images to give their grids.
    time : {"mean", "max"} or int, optional
        Pool clips (C, T, H, W), or (T, H, W, C) with ``layout="hwc"``: the mean or the maximum of their frames, or one.
    map_dtype : {"bfloat16", "float16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"}, optional
        What integers in the maps are the bits of.
    map_index : path, optional
        A JSON or CSV file that says in which file, and where in it, the map of each image lies.
    box_format : {"xyxy", "xywh", "cxcywh"}, optional
        What the four numbers of a box mean; by default as the box file says.
    boxes_as : str, optional
        Layout of the box file, such as "coco" or "csv"; by default as its content says.
    mask_fill : {"coco", "pil"}, optional
        How outlines become masks: as pycocotools or as Pillow draws them; by default "pil" for LabelMe, else "coco".
    angle : {"deg-ccw", "deg-cw", "rad-ccw", "rad-cw"}, optional
        Unit and direction of the angles of turned boxes; by default degrees counter-clockwise. It needs
        ``op="roi_align_rotated"``.
    match : {"id", "file-name"}, optional
        What decides about an image whose id and file name are different maps; by default that is an error.
    normalized : bool
        Boxes are in 0..1 of the image. If the sizes of the images are not known, they are taken of the maps.
    levels : str or mapping, optional
        Levels of a feature pyramid and their strides: "p2:4,p3:8,p4:16,p5:32" or ``{"p2": 4, "p3": 8}``. By default
        they are those that names and sizes leave no doubt of.
    level_rule : {"torchvision", "detectron2", "mmdet", "matterport"}
        What decides from which level a box is pooled.
    canonical_scale : float
        Side of a box, in pixels, that is pooled from the canonical level.
    canonical_level : int
        The canonical level; level n has stride ``2 ** n``.
    level : str, optional
        Pool all boxes from this level.
    levels_combine : {"concat", "sum", "mean", "max"}, optional
        Pool every box from every level, and combine the results.
    size : int or (int, int)
        Output size in bins: N x N, or (height, width).
    spatial_scale : float or (float, float)
        Feature cells per pixel of the network's input: 1/16 for a stride of 16. Two numbers are y and x.
    stride : float or (float, float), optional
        Give it instead of `spatial_scale`, which is 1 / stride.
    preprocess : str or path, optional
        What was done to the images before the network saw them: "shortest-edge:800,1333",
        "shortest-edge-floor:800,1333", "longest-edge:1024", "letterbox:640", "squash:518", "center-crop:224,256",
        "pad-multiple:14", "center-pad:14", "round-multiple:14", "none"; or a CSV or JSON file with
        rx, ry, px, py, or input_height, input_width, of each image.
    image_size : path, str or (int, int), optional
        Sizes of the original images, where the box file does not say them: a COCO JSON, Visual Genome's
        image_data.json, a CSV or JSON object by image id; or one height and width for all.
    size_check : bool
        Refuse maps whose sizes do not agree with the images and the stride; False warns instead.
    aligned : bool
        Shift boxes by half a cell, as detectron2 does.
    sampling_ratio : int
        Samples per bin and axis; -1 takes one per cell, rounded up.
    op : str
        The operator, such as "roi_align" or "roi_pool"; ``roicli help operators`` lists all.
    mode : {"avg", "max", "weighted-max"}, optional
        Take the mean or the maximum of a bin's samples, or of their weighted cells; by default the
        mean, and the maximum for RoIPool.
    convention : str, optional
        Compute as another library does: "openvino-half-pixel"; ``roicli help conventions`` lists all.
    reduce : {"none", "mean", "max", "l2"}
        Make one vector a box: the mean or the maximum of all bins, or their mean scaled to length 1.
    mask_rule : {"coverage", "upsampled", "resize", "resize-antialias", "resize-any", "nearest"}
        How a mask weighs the cells of its map, with ``op="mask_mean"`` or ``"mask_in_box"``; see ``roicli help masks``.
    category : str, optional
        Pool only boxes with these labels or category ids, separated by commas.
    min_score : float, optional
        Pool only boxes of this score or above.
    top_k : int, optional
        Pool only so many boxes of an image, those of the highest scores.
    pairs : path or "all", optional
        Pool the box around each pair of boxes: those of a file, or each pair of an image.
    expand : float or str, optional
        Enlarge boxes about their centers by a factor, or by pixels on each side: "20px".
    square : bool
        Make the shorter side of each box as long as the longer one.
    clip : bool
        Cut boxes at the borders of their images.
    whole_image : bool
        Add a box of the whole image for each image that has boxes, after all others.
    bad_boxes : {"error", "skip", "zero", "keep"}
        NaN and inverted boxes: raise, skip, write zeros, or pool inverted ones as torchvision does.
    missing_features : {"error", "skip", "zero"}
        Boxes of images without features: raise, skip, or write zeros.
    index, report : path, optional
        Also write a CSV that names the box of each row; a JSON file about the run.
    sidecar : bool
        Also write OUTPUT.origin.json beside an .npy: how it was made. Other formats hold that themselves.
    output_layout : str, optional
        Write what the loaders of other projects read, such as "butd-h5-adaptive". With `shard`, merge does.
    spatial : {4, 5, 6, 7}, optional
        Numbers of the spatial vectors in such a layout; by default 6, where the sizes of images are known.
    out_dtype : {"float16", "float32"}, optional
        Dtype of the output; by default float32, and float64 for float64 features.
    overwrite : bool
        Replace outputs that exist.
    resume : bool
        Continue this job where it was interrupted. If there is nothing to continue, start it.
    shard : str, optional
        Do one part only: "2/10" is part 2 of 10; "auto" asks Slurm, Grid Engine or PBS. ``roicli merge`` joins parts.
    executor : str or concurrent.futures.Executor
        What runs the job: "local"; "dask:" for a cluster of Dask on this machine; "dask://HOST:PORT" or "dask:FILE"
        for a scheduler that runs; "MODULE:FACTORY" for what a function returns; or any executor, which is not shut
        down. Its workers must see the same files.
    workers : int, optional
        Use at most so many cores; by default all that the process may use.
    batch_size : int, optional
        Pool and write so many boxes at once; by default as many as 16 MiB hold.
    max_memory : int, optional
        Limit the memory of all workers together, in bytes.
    kernel : {"auto", "numpy", "numba"}
        What computes averages; auto takes Numba for large jobs if it is installed.

    Returns
    -------
    RunReport
        Shape and dtype of the output, counts of boxes, time, memory, and notes on what was assumed.

    Raises
    ------
    RoicliError
        Bad data, wrong usage, an output that cannot be written; the message names the file and the row or dataset.

    Examples
    --------
    >>> import pathlib, roicli, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.save(folder / "map.npy", np.ones((8, 32, 32), np.float32))
    >>> _ = (folder / "boxes.json").write_text("[[0, 0, 64, 64], [10, 20, 90, 100]]")
    >>> report = roicli.align(folder / "map.npy", folder / "boxes.json", folder / "pooled.npy", spatial_scale=1 / 4)
    >>> report.shape, float(np.load(report.output).mean())
    ((2, 8, 7, 7), 1.0)
    """
    signature(align).bind(features, boxes, output, **options)  # names an option that is unknown
    return run_align(align_job(features, boxes, output, **options), Silent())


def check(features: PathLike, boxes: PathLike, **options: Unpack[PoolOptions]) -> CheckReport:
    """Do all checks of `align` without pooling: the command ``roicli check``.

    Parameters
    ----------
    features, boxes, **options
        As in `align`; those of output and run are left out.

    Returns
    -------
    CheckReport
        What would be written, one box followed from its file to its map, likely mistakes in `warnings`, and what was
        assumed in `notes`.

    Raises
    ------
    RoicliError
        Where `align` would raise it, with the same message.

    Examples
    --------
    >>> import pathlib, roicli, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.save(folder / "map.npy", np.ones((8, 32, 32), np.float32))
    >>> _ = (folder / "boxes.json").write_text("[[0, 0, 64, 64], [300, 200, 390, 290]]")
    >>> report = roicli.check(folder / "map.npy", folder / "boxes.json", spatial_scale=1 / 4)
    >>> report.shape, report.wholly_outside
    ((2, 8, 7, 7), 1)
    """
    signature(check).bind(features, boxes, **options)
    from roicli.jobs.check import check as run_check

    return run_check(check_job(features, boxes, **options), Silent())


def open_output(output: PathLike, boxes: PathLike, **options: Unpack[AlignOptions]) -> Output:
    """Pool while extracting: open an output to which a program adds the map of each image.

    Maps need not touch the disk. Checks, journal, resuming and bytes are those of `align` on the same maps in files.
    Several processes write one output by `shard`, each its part; ``roicli merge`` joins them.

    Parameters
    ----------
    output, boxes
        As in `align`.
    **options
        Those of `align` that do not concern files of features.

    Returns
    -------
    Output
        A context manager: ``missing()`` lists images that are not done, ``add(image_id, features)`` pools one.

    Raises
    ------
    RoicliError
        As `align` raises. At the end of the block, an output without some of its images is unfinished.

    Examples
    --------
    >>> import pathlib, roicli, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "boxes.json").write_text('{"139": [[0, 0, 64, 64]], "285": [[10, 20, 90, 100], [0, 0, 8, 8]]}')
    >>> with roicli.open_output(folder / "pooled.npy", folder / "boxes.json", stride=4, resume=True) as job:
    ...     for image_id in job.missing():
    ...         job.add(image_id, np.ones((8, 32, 32), np.float32))
    >>> np.load(folder / "pooled.npy").shape
    (3, 8, 7, 7)
    """
    from roicli.jobs.stream import Output

    return Output(align_job("", boxes, output, **options))


def verify(
    reference: PathLike,
    features: PathLike,
    boxes: PathLike,
    *,
    tolerance: float = TOLERANCE,
    workers: int | None = None,
    **options: Unpack[PoolOptions],
) -> VerifyReport:
    """Compare pooled features with what `align` computes: the command ``roicli verify``.

    Parameters
    ----------
    reference : path
        An output of roicli, whose recorded options need not be given, or an .npy or .npz file of somebody else.
    features, boxes, **options
        As in `align`; those of output are left out.
    tolerance : float
        Largest difference that is allowed, in units of the spread of the values.
    workers : int, optional
        As in `align`.

    Returns
    -------
    VerifyReport
        Whether they agree, the largest difference and where it is.

    Raises
    ------
    RoicliError
        Where `align` would raise it; a reference of another shape.

    Examples
    --------
    >>> import pathlib, roicli, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.save(folder / "map.npy", np.ones((8, 32, 32), np.float32))
    >>> _ = (folder / "boxes.json").write_text("[[0, 0, 64, 64], [10, 20, 90, 100]]")
    >>> np.save(folder / "theirs.npy", np.ones((2, 8, 7, 7), np.float32))
    >>> report = roicli.verify(folder / "theirs.npy", folder / "map.npy", folder / "boxes.json", spatial_scale=1 / 4)
    >>> report.agrees, report.largest
    (True, 0.0)
    """
    from roicli.jobs.foreign import read_reference
    from roicli.jobs.verify import verify as run_verify

    known = read_reference(path_of(reference))
    job = check_job(features, boxes, **known.options(dict(options)))
    return run_verify(job, known, Silent(), tolerance=tolerance, workers=workers or usable_cores())


def identify(reference: PathLike, features: PathLike, boxes: PathLike, **options: Unpack[PoolOptions]) -> Identified:
    """Find the convention, or the mistake, that made pooled features: the command ``roicli identify``.

    Parameters
    ----------
    reference, features, boxes, **options
        As in `verify`: the options as they should have been.

    Returns
    -------
    Identified
        All answers that fit; the nearest one if none does.

    Raises
    ------
    RoicliError
        Files that cannot be read; a reference of another shape.
    """
    from roicli.jobs.identify import identify as run_identify

    return run_identify(check_job(features, boxes, **options), path_of(reference), Silent())


def _spell_out(function: Callable[..., Any], options: type) -> None:
    """Give a function the signature that help() and notebooks show: every option with its type and default."""
    jobs = (Reading, Geometry, Pyramid, Choice, AlignJob)
    defaults = {field.name: field.default for job in jobs for field in fields(job)} | SPEC | {"workers": None}
    *given, _ = signature(function).parameters.values()
    kinds = options.__annotations__.items()
    spelled = [Parameter(name, Parameter.KEYWORD_ONLY, default=defaults[name], annotation=kind.__forward_arg__)
               for name, kind in kinds]  # fmt: skip
    function.__signature__ = Signature([*given, *spelled])  # type: ignore[attr-defined]


_spell_out(align, AlignOptions)
_spell_out(check, PoolOptions)
