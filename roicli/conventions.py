"""The conventions of other libraries, each as the settings that give its numbers: presets, not code paths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from roicli.errors import UsageError
from roicli.spec import PoolSpec, Rule


class Convention(NamedTuple):
    """What one library computes, as options of `align`.

    Attributes
    ----------
    name : str
        By which it is asked for: "onnx-max".
    settings : dict
        Options that it fixes: op, aligned, mode, sampling_ratio, rule. Others are up to the caller.
    start, end : str
        Where a region lies along x, in cells.
    least : str
        The least extent of a region.
    samples : str
        How many samples a bin has, at what sampling ratio.
    edge, bin : str
        Samples off the map; what a bin is of its samples.
    call : str
        How the library is called for these numbers.
    source : str
        Where the formulas were read.
    """

    name: str
    call: str
    source: str
    settings: dict[str, Any]
    start: str = "x1 s"
    end: str = "x2 s"
    least: str = "one cell"
    samples: str = "N, or ceil(size / bins)"
    edge: str = "clamped, zero beyond a cell"
    bin: str = "mean"


_SHIFTED: dict[str, Any] = {"start": "x1 s - 0.5", "end": "x2 s - 0.5", "least": "none"}
_INSIDE = "zero beyond the outermost centers"
_POSITIVE = "maximum of interpolated samples, at least 0"
_ALIGNED = {"aligned": True}
_CORNERS = Rule(least=False, samples="corners", edge="inside")

ALL = {
    one.name: one
    for one in (
        Convention(
            "torchvision",
            "ops.roi_align(aligned=False)",
            "torchvision/csrc/ops/cpu/roi_align_kernel.cpp",
            {"aligned": False},
        ),
        Convention(
            "torchvision-aligned",
            "ops.roi_align(aligned=True)",
            "torchvision/csrc/ops/cpu/roi_align_kernel.cpp",
            _ALIGNED,
            **_SHIFTED,
        ),
        Convention("detectron2", "ROIAlignV2", "detectron2/layers/roi_align.py", _ALIGNED, **_SHIFTED),
        Convention("mmcv", "RoIAlign(aligned=True)", "mmcv/ops/csrc/pytorch/cpu/roi_align.cpp", _ALIGNED, **_SHIFTED),
        Convention(
            "mmcv-max",
            "RoIAlign(pool_mode='max')",
            "mmcv/ops/csrc/pytorch/cpu/roi_align.cpp",
            _ALIGNED | {"mode": "max"},
            bin="maximum of interpolated samples",
            **_SHIFTED,
        ),
        Convention("onnx-10", "RoiAlign, opset 10", "ONNX, docs/Operators.md, RoiAlign-10", {"aligned": False}),
        Convention("onnx-16", "RoiAlign, half_pixel", "ONNX, docs/Operators.md, RoiAlign-16", _ALIGNED, **_SHIFTED),
        Convention(
            "onnx-max",
            "RoiAlign, half_pixel, mode=max",
            "onnxruntime/core/providers/cpu/object_detection/roialign.cc",
            _ALIGNED | {"mode": "weighted-max"},
            bin="maximum of weighted cells",
            **_SHIFTED,
        ),
        Convention(
            "onnx-10-max",
            "RoiAlign, opset 10, mode=max",
            "onnxruntime/core/providers/cpu/object_detection/roialign.cc",
            {"aligned": False, "mode": "weighted-max"},
            bin="maximum of weighted cells",
        ),
        Convention(
            "onnxruntime",
            "RoiAlign, half_pixel",
            "onnxruntime/core/providers/cpu/object_detection/roialign.cc",
            _ALIGNED,
            **_SHIFTED,
        ),
        Convention(
            "export-opset-15",
            "aligned, exported below opset 16: boxes - 0.5 / s",
            "torch/onnx, torchvision/ops/_register_onnx_ops.py",
            {"aligned": True, "rule": Rule(least=True)},
            start="x1 s - 0.5",
            end="x2 s - 0.5",
        ),
        Convention(
            "openvino-asymmetric",
            "ROIAlign-9, asymmetric",
            "openvino/reference/roi_align.hpp",
            {"aligned": False},
        ),
        Convention(
            "openvino-half-pixel",
            "ROIAlign-9, half_pixel",
            "openvino/reference/roi_align.hpp",
            {"aligned": True, "rule": Rule(before=0.5)},
            start="(x1 + 0.5) s - 0.5",
            end="(x2 + 0.5) s - 0.5",
            least="none",
        ),
        Convention(
            "openvino-half-pixel-for-nn",
            "ROIAlign-9, half_pixel_for_nn",
            "openvino/reference/roi_align.hpp",
            _ALIGNED,
            **_SHIFTED,
        ),
        Convention(
            "openvino-asymmetric-max",
            "ROIAlign-9, asymmetric, mode max",
            "openvino/reference/roi_align.hpp",
            {"aligned": False, "mode": "max", "rule": Rule(positive=True)},
            bin=_POSITIVE,
        ),
        Convention(
            "openvino-half-pixel-max",
            "ROIAlign-9, half_pixel, mode max",
            "openvino/reference/roi_align.hpp",
            {"aligned": True, "mode": "max", "rule": Rule(before=0.5, positive=True)},
            start="(x1 + 0.5) s - 0.5",
            end="(x2 + 0.5) s - 0.5",
            least="none",
            bin=_POSITIVE,
        ),
        Convention(
            "openvino-half-pixel-for-nn-max",
            "ROIAlign-9, half_pixel_for_nn, mode max",
            "openvino/reference/roi_align.hpp",
            _ALIGNED | {"mode": "max", "rule": Rule(positive=True)},
            bin=_POSITIVE,
            **_SHIFTED,
        ),
        Convention(
            "mindspore",
            "ROIAlign(roi_end_mode=1)",
            "mindspore/ccsrc/plugin/device/cpu/kernel/roi_align_cpu_kernel.cc",
            {"aligned": False, "rule": Rule(end=1.0, least=False, floor=True)},
            end="(x2 + 1) s",
            least="none",
            samples="N, or floor(size / bins)",
        ),
        Convention(
            "mindspore-end-mode-0",
            "ROIAlign(roi_end_mode=0)",
            "mindspore/ccsrc/plugin/device/cpu/kernel/roi_align_cpu_kernel.cc",
            {"aligned": False, "rule": Rule(floor=True)},
            samples="N, or floor(size / bins)",
        ),
        Convention(
            "tensorrt",
            "ROIAlign_TRT, half_pixel",
            "TensorRT/plugin/roiAlignPlugin/roiAlignKernel.cu",
            _ALIGNED,
            **_SHIFTED,
        ),
        Convention(
            "tensorrt-max",
            "ROIAlign_TRT, half_pixel, mode=max",
            "TensorRT/plugin/roiAlignPlugin/roiAlignKernel.cu",
            _ALIGNED | {"mode": "weighted-max"},
            bin="maximum of weighted cells",
            **_SHIFTED,
        ),
        Convention(
            "ncnn-1",
            "ROIAlign, version=1, aligned=1",
            "ncnn/src/layer/roialign.cpp",
            _ALIGNED,
            **_SHIFTED,
        ),
        Convention(
            "paddle",
            "vision.ops.roi_align(aligned=True)",
            "paddle/phi/kernels/cpu/roi_align_kernel.cc",
            _ALIGNED,
            **_SHIFTED,
        ),
        Convention(
            "crop-and-resize",
            "tf.image.crop_and_resize, x s as the corner",
            "tensorflow/core/kernels/image/crop_and_resize_op.cc",
            {"aligned": False, "rule": _CORNERS},
            least="none",
            samples="1, evenly from end to end",
            edge=_INSIDE,
        ),
        Convention(
            "crop-and-resize-shifted",
            "tf.image.crop_and_resize, x s - 0.5 as the corner",
            "tensorflow/core/kernels/image/crop_and_resize_op.cc",
            {"aligned": True, "rule": _CORNERS},
            start="x1 s - 0.5",
            end="x2 s - 0.5",
            least="none",
            samples="1, evenly from end to end",
            edge=_INSIDE,
        ),
        Convention(
            "matterport",
            "PyramidROIAlign, boxes of norm_boxes",
            "matterport/Mask_RCNN, mrcnn/model.py and utils.py",
            {"aligned": False, "rule": replace(_CORNERS, end=-1.0, corners_meet=True)},
            start="x1 r, with r = (L - 1) / (L / s - 1) on a map of L cells",
            end="(x2 - 1) r",
            least="none",
            samples="1, evenly from end to end",
            edge=_INSIDE,
        ),
        Convention(
            "keras",
            "KerasCV's ROIAligner",
            "keras_cv/src/layers/object_detection/roi_align.py",
            {"aligned": False, "rule": Rule(least=False, samples="middle", edge="extend")},
            least="none",
            samples="1, in the middle",
            edge="the last cell; before the first, the line through two",
        ),
        Convention(
            "roi-pool",
            "ops.roi_pool",
            "torchvision/csrc/ops/cpu/roi_pool_kernel.cpp",
            {"op": "roi_pool"},
            start="round(x1 s)",
            end="round(x2 s) + 1",
            samples="whole cells",
            edge="left out",
            bin="maximum",
        ),
    )
}


def find(name: str) -> Convention:
    """Return a convention by its name.

    Raises
    ------
    UsageError
        The name is unknown.

    Examples
    --------
    >>> find("openvino-half-pixel").start
    '(x1 + 0.5) s - 0.5'
    """
    if name not in ALL:
        raise UsageError(f"convention {name!r} is unknown", f"Give one of {', '.join(ALL)}.")
    return ALL[name]


def name_of(spec: PoolSpec) -> list[str]:
    """Return the conventions that compute so.

    Examples
    --------
    >>> name_of(PoolSpec((7, 7), rule=Rule(end=1.0, least=False, floor=True)))
    ['mindspore']
    """
    if spec.op != PoolSpec.op:
        return [one.name for one in ALL.values() if one.settings.get("op") == spec.op]
    default = {"aligned": False, "mode": "avg", "rule": None}
    wanted = {name: getattr(spec, name) for name in default}
    return [one.name for one in ALL.values() if default | one.settings == wanted]
