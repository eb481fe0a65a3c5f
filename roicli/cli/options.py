"""The options that several commands share, each declared once, under its heading of --help."""

from __future__ import annotations

import click

from roicli.cli.command import option, stacked
from roicli.cli.values import FILE as FILE
from roicli.cli.values import PATTERN as PATTERN
from roicli.cli.values import (
    Registered,
    box_layouts,
    grid,
    memory,
    operators,
    output_layouts,
    output_size,
    over_time,
    positive,
    prefix,
    sampling_ratio,
    scale,
    whole,
)

INPUTS, LEVELS, NUMBERS, ROWS, OUTPUT, RUN = "Inputs", "Levels", "Numbers", "Rows", "Output", "Run"

input_options = stacked(
    option(INPUTS, "--dataset", metavar="PATH", help="Dataset or group that holds the maps, in an HDF5 or .npz file."),
    option(
        *(INPUTS, "--layout"),
        choices=["chw", "hwc", "cwh", "whc", "tokens"],
        help="How a map is stored: channels first or last; cwh or whc in MATLAB files, whose axes are reversed; or a "
        "sequence of ViT tokens.  [default: chw]",
    ),
    option(
        *(INPUTS, "--grid"),
        type=grid,
        metavar="HxW|auto",
        help="Tokens: height and width of their grid in patches.  [default: a square, or by --patch]",
    ),
    option(
        *(INPUTS, "--prefix"),
        type=prefix,
        metavar="N|auto",
        help="Tokens: how many precede the patches, class token and registers.  [default: those beside the grid]",
    ),
    option(
        *(INPUTS, "--token-order"),
        choices=["raster", "merge-2x2"],
        help="Tokens: patches line by line, or in blocks of 2 x 2 as in Qwen-VL.  [default: raster]",
    ),
    option(
        *(INPUTS, "--patch"),
        type=whole(1, 4096),
        metavar="N",
        help="Tokens: side of a patch in pixels; image sizes then give the grids.",
    ),
    option(
        *(INPUTS, "--time"),
        type=over_time,
        metavar="mean|max|I",
        help="Clips (C, T, H, W): pool the mean or the maximum of all frames, or frame I.",
    ),
    option(
        *(INPUTS, "--map-dtype"),
        choices=["bfloat16", "float16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"],
        metavar="DTYPE",
        help="What integers in the maps are the bits of: bfloat16, float16, float8_e4m3fn, float8_e5m2.",
    ),
    option(
        *(INPUTS, "--map-index"),
        type=FILE,
        metavar="FILE",
        help="JSON or CSV that says in which file, and where in it, the map of each image lies.",
    ),
    option(
        *(INPUTS, "--box-format"),
        choices=["xyxy", "xywh", "cxcywh"],
        help="What the four numbers of a box mean.  [default: as the box file says]",
    ),
    option(
        *(INPUTS, "--boxes-as"),
        type=Registered(box_layouts),
        metavar="NAME",
        help="Layout of the box file, such as coco or voc (roicli help formats).  [default: as its content says]",
    ),
    option(
        *(INPUTS, "--mask-fill"),
        choices=["coco", "pil"],
        help="How outlines become masks: as pycocotools or Pillow draws them.  [default: pil for LabelMe, else coco]",
    ),
    option(
        *(INPUTS, "--angle"),
        choices=["deg-ccw", "deg-cw", "rad-ccw", "rad-cw"],
        help="Unit and sense of the angles of turned boxes.  [default: deg-ccw]",
    ),
    option(
        *(INPUTS, "--match"),
        choices=["id", "file-name"],
        help="What finds the map of an image that has both.  [default: both, which must agree]",
    ),
    option(*(INPUTS, "--normalized"), is_flag=True, help="Boxes are in 0..1 of the image."),
)

level_options = stacked(
    option(
        *(LEVELS, "--levels"),
        metavar="NAME:STRIDE,...",
        help="Levels of a feature pyramid, such as p2:4,p3:8,p4:16,p5:32.  [default: if names and sizes say so]",
    ),
    option(
        *(LEVELS, "--level-rule"),
        choices=["torchvision", "detectron2", "mmdet", "matterport"],
        default="torchvision",
        help="What decides from which level a box is pooled.",
    ),
    option(
        *(LEVELS, "--canonical-scale"),
        type=positive,
        default="224",
        metavar="PIXELS",
        help="Side of a box that is pooled from the canonical level.",
    ),
    option(
        *(LEVELS, "--canonical-level"),
        type=whole(0, 30),
        default="4",
        metavar="N",
        help="The canonical level; level N has stride 2^N.",
    ),
    option(LEVELS, "--level", metavar="NAME", help="Pool all boxes from this level."),
    option(
        *(LEVELS, "--levels-combine"),
        choices=["concat", "sum", "mean", "max"],
        help="Pool every box from every level, and combine the results.",
    ),
)

pool_options = stacked(
    option(
        *(NUMBERS, "--size"),
        type=output_size,
        metavar="N|HxW",
        default="7",
        help="Output size in bins: N x N, or height x width.",
    ),
    option(
        *(NUMBERS, "--spatial-scale"),
        type=scale,
        metavar="S|SY,SX",
        default="1",
        help="Feature cells per pixel, such as 1/16; y and x if they differ.",
    ),
    option(*(NUMBERS, "--stride"), type=scale, metavar="N|NY,NX", help="Pixels per feature cell, instead: 1 / scale."),
    option(
        *(NUMBERS, "--preprocess"),
        metavar="WHAT|FILE",
        help="What was done to the images (roicli help geometry), such as shortest-edge:800,1333.  [default: nothing]",
    ),
    option(
        *(NUMBERS, "--image-size"),
        metavar="FILE|HxW",
        help="Sizes of the original images.  [default: as the box file says]",
    ),
    option(
        *(NUMBERS, "--size-check/--no-size-check"),
        default=True,
        help="Refuse maps whose sizes do not fit the images and the stride.",
    ),
    option(
        *(NUMBERS, "--aligned/--no-aligned"),
        default=False,
        help="Shift boxes by half a cell, as detectron2 does.",
    ),
    option(
        *(NUMBERS, "--sampling-ratio"),
        type=sampling_ratio,
        metavar="N|auto",
        default="auto",
        help="Samples per bin and axis; auto takes one per cell, rounded up.",
    ),
    option(
        *(NUMBERS, "--op"),
        type=Registered(operators),
        metavar="NAME",
        default="roi-align",
        help="The operator, such as roi-pool; roicli help operators lists all.",
    ),
    option(
        *(NUMBERS, "--mode"),
        choices=["avg", "max", "weighted-max"],
        metavar="MODE",
        help="avg, max or weighted-max of a bin's samples.  [default: that of the operator]",
    ),
    option(
        *(NUMBERS, "--convention"),
        metavar="NAME",
        help="Compute as another library does, such as onnx-max; roicli help conventions lists all.",
    ),
    option(
        *(NUMBERS, "--mask-rule"),
        choices=["coverage", "upsampled", "resize", "resize-antialias", "resize-any", "nearest"],
        default="coverage",
        metavar="RULE",
        help="How a mask weighs the cells: coverage, upsampled, nearest and others (roicli help masks).",
    ),
)

_reduce_option = option(
    *(NUMBERS, "--reduce"),
    choices=["none", "mean", "max", "l2"],
    default="none",
    help="One vector a box: mean or maximum of all bins; l2 scales the mean to length 1.",
)

choice_options = stacked(
    option(ROWS, "--category", metavar="NAME,...", help="Pool only boxes with these labels or category ids."),
    option(ROWS, "--min-score", type=float, metavar="SCORE", help="Pool only boxes of this score or above."),
    option(*(ROWS, "--top-k"), type=whole(1), metavar="N", help="Pool only the N best boxes of an image by score."),
    option(
        *(ROWS, "--pairs"),
        metavar="FILE|all",
        help="Pool the box around each pair of boxes: those of a file, or all of an image.",
    ),
    option(*(ROWS, "--expand"), metavar="FACTOR|Npx", help="Enlarge boxes about their centers, such as 1.2 or 20px."),
    option(ROWS, "--square", is_flag=True, help="Make the shorter side of each box as long as the longer one."),
    option(ROWS, "--clip", is_flag=True, help="Cut boxes at the borders of their images."),
    option(ROWS, "--whole-image", is_flag=True, help="Add a box of the whole image for each image, after all others."),
)

_row_options = stacked(
    option(
        *(ROWS, "--bad-boxes"),
        choices=["error", "skip", "zero", "keep"],
        default="error",
        help="NaN and inverted boxes: stop, skip, write zeros, or pool inverted ones as torchvision does.",
    ),
    option(
        *(ROWS, "--missing-features"),
        choices=["error", "skip", "zero"],
        default="error",
        help="Boxes of images without features: stop, skip, or write zeros.",
    ),
)

# What align and check are told of a job, which check goes through without pooling.
job_options = stacked(
    click.argument("features", type=PATTERN),
    click.argument("boxes", type=FILE),
    input_options,
    level_options,
    pool_options,
    _reduce_option,
    choice_options,
    _row_options,
)

dtype_option = option(
    *(OUTPUT, "--out-dtype"),
    choices=["float16", "float32"],
    help="Dtype of the output.  [default: float32; float64 for float64 features]",
)
index_option = option(
    OUTPUT, "--index", type=FILE, metavar="FILE", help="Also write a CSV that names the box of each row."
)
layout_options = stacked(
    option(
        *(OUTPUT, "--output-layout"),
        type=Registered(output_layouts),
        metavar="NAME",
        help="Write what loaders of other projects read: butd-h5-adaptive, ...; see roicli help outputs.",
    ),
    option(
        *(OUTPUT, "--spatial"),
        type=click.Choice(["4", "5", "6", "7"]),
        help="Numbers of the spatial vectors in such a layout.  [default: 6, where image sizes are known]",
    ),
)
overwrite_option = option(OUTPUT, "--overwrite", is_flag=True, help="Replace outputs that exist.")

run_options = stacked(
    option(RUN, "--resume", is_flag=True, help="Continue this job where it was interrupted."),
    option(
        *(RUN, "--shard"),
        metavar="I/N|auto",
        help="Do part I of N, for roicli merge; auto asks the batch system (roicli help cluster).",
    ),
    option(
        *(RUN, "--executor"),
        metavar="NAME",
        default="local",
        help="What runs the job: local, dask:, dask://HOST:PORT, MODULE:FACTORY (roicli help cluster).",
    ),
    option(
        *(RUN, "--workers"),
        type=whole(1, 1024),
        metavar="N",
        help="Use at most N cores.  [default: all]",
    ),
    option(
        *(RUN, "--batch-size"),
        type=whole(1),
        metavar="N",
        help="Pool and write N boxes at once.  [default: as many as 16 MiB hold]",
    ),
    option(
        *(RUN, "--max-memory"),
        type=memory,
        metavar="SIZE",
        help="Limit the memory of all workers together, such as 2GiB.  [default: no limit]",
    ),
    option(
        *(RUN, "--kernel"),
        choices=["auto", "numpy", "numba"],
        default="auto",
        help="What computes averages; auto takes Numba for large jobs if roicli[fast] is installed.",
    ),
)
quiet_option = option(RUN, "-q", "--quiet", is_flag=True, help="Print errors only.")
json_option = option(RUN, "--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
