"""What libraries give, as golden/make_runtimes.py has recorded it: computed by the presets, and identified as them."""

from pathlib import Path

import numpy as np
import pytest

import roicli
from roicli import conventions
from roicli.pooling.arguments import make_spec
from roicli.pooling.contraction import pool_maps
from roicli.pooling.extents import lie_outside
from roicli.pooling.placement import place
from roicli.pooling.sampling import Sides, make_bins, sample_coordinates

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "runtimes.npz")
CALLS = {
    "torchvision aligned=False": "torchvision",
    "torchvision aligned=True": "torchvision-aligned",
    "torchvision roi_pool": "roi-pool",
    "onnxruntime opset=10 avg": "onnx-10",
    "onnxruntime opset=10 max": "onnx-10-max",
    "onnxruntime opset=16 half_pixel avg": "onnxruntime",
    "onnxruntime opset=16 half_pixel max": "onnx-max",
    "onnxruntime opset=16 output_half_pixel avg": "onnx-10",
    "onnxruntime opset=16 output_half_pixel max": "onnx-10-max",
    "openvino ROIAlign-3 avg": "openvino-asymmetric",
    "openvino ROIAlign-3 max": "openvino-asymmetric-max",
    "openvino ROIAlign-9 asymmetric avg": "openvino-asymmetric",
    "openvino ROIAlign-9 asymmetric max": "openvino-asymmetric-max",
    "openvino ROIAlign-9 half_pixel avg": "openvino-half-pixel",
    "openvino ROIAlign-9 half_pixel max": "openvino-half-pixel-max",
    "openvino ROIAlign-9 half_pixel_for_nn avg": "openvino-half-pixel-for-nn",
    "openvino ROIAlign-9 half_pixel_for_nn max": "openvino-half-pixel-for-nn-max",
    "ncnn version=1 aligned=0": "torchvision",
    "ncnn version=1 aligned=1": "ncnn-1",
    "paddle aligned=False": "torchvision",
    "paddle aligned=True": "paddle",
    "paddle roi_pool": "roi-pool",
    "mindspore roi_end_mode=0": "mindspore-end-mode-0",
    "mindspore roi_end_mode=1": "mindspore",
    "tensorflow crop_and_resize shift=0.0": "crop-and-resize",
    "tensorflow crop_and_resize shift=0.5": "crop-and-resize-shifted",
    "tensorflow crop_and_resize Matterport": "matterport",
}
RECORDED = sorted(set(GOLDEN) - {"features", "boxes"})
SIZE, SCALE = (2, 3), 1 / 8


def test_presets_compute_what_the_libraries_do():
    cells, boxes = np.ascontiguousarray(GOLDEN["features"].transpose(1, 2, 0)), GOLDEN["boxes"]
    assert {key.partition("@")[0] for key in RECORDED} == set(CALLS)
    for key in RECORDED:
        call, _, ratio = key.partition("@")
        settings = {"op": "roi_align", "sampling_ratio": int(ratio) or -1} | conventions.find(CALLS[call]).settings
        out = np.empty_like(theirs := GOLDEN[key])
        placed = place(np.zeros(len(boxes), np.intp), boxes, SCALE)
        pool_maps(lambda _: cells, placed, cells.shape[:2], make_spec(SIZE, **settings), out)
        # MindSpore divides by a count of zero.
        assert (out[np.isnan(theirs)] == 0).all()
        assert "mindspore" in key or np.isfinite(theirs).all()
        np.testing.assert_allclose(out, np.nan_to_num(theirs), atol=4e-6, err_msg=key)


def test_keras_is_what_its_formulas_say():
    """Written down from KerasCV's multilevel_crop_and_resize; boxes over all edges, and beside the map."""
    cells, boxes = np.ascontiguousarray(GOLDEN["features"].transpose(1, 2, 0)), GOLDEN["boxes"].copy()
    boxes[4:7] = [-90, -60, -30, 40], [200, 20, 260, 50], [30, 150, 60, 130]
    parts = []
    for axis in (1, 0):
        last, bins = cells.shape[1 - axis] - 1, SIZE[1 - axis]
        low, high = boxes[:, axis] * np.float32(SCALE), boxes[:, axis + 2] * np.float32(SCALE)
        at = low[:, None] + (np.arange(bins, dtype=np.float32) + 0.5) * (high - low)[:, None] / bins
        first = np.clip(np.floor(at), 0, last).astype(int)
        parts.append((first, np.minimum(first + 1, last), at - first))
    (y0, y1, fy), (x0, x1, fx) = ([one[:, :, None] for one in parts[0]], [one[:, None] for one in parts[1]])
    fy, fx = fy[..., None], fx[..., None]
    theirs = (1 - fy) * ((1 - fx) * cells[y0, x0] + fx * cells[y0, x1])
    theirs += fy * ((1 - fx) * cells[y1, x0] + fx * cells[y1, x1])
    out = np.empty((len(boxes), cells.shape[2], *SIZE), np.float32)
    spec = make_spec(SIZE, **conventions.find("keras").settings)
    placed = place(np.zeros(len(boxes), np.intp), boxes, SCALE)
    pool_maps(lambda _: cells, placed, cells.shape[:2], spec, out)
    np.testing.assert_allclose(out, theirs.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)
    assert not lie_outside(
        placed.rounded(out.dtype), np.tile(cells.shape[:2], (len(boxes), 1)).astype(float), spec
    ).any()


@pytest.mark.parametrize("stride", [4, 32])
def test_samples_at_the_last_center_fall_as_tensorflow_rounds_them(stride):
    """A sample in the last place beyond it is zero, and boxes that Matterport clips to the image end there."""
    spec = make_spec((2, 14), **conventions.find("matterport").settings)
    left = np.linspace(0, 0.8, 30, dtype=np.float32)
    for length in range(8, 200, 7):
        pixels = np.float32(length * stride - 1)
        ends = Sides(left * pixels, np.full_like(left, pixels + 1), np.array([1 / stride]))
        bins = make_bins(ends, 14, length, spec)
        begin = ends.low / pixels  # what `norm_boxes` gives; the formulas of crop_and_resize_op.cc follow
        step = (np.float32(1) - begin) * np.float32(length - 1) / np.float32(13)
        theirs = (begin * np.float32(length - 1))[:, None] + np.arange(14, dtype=np.float32) * step[:, None]
        ours = sample_coordinates(bins, np.arange(theirs.size), np.zeros(theirs.size))
        np.testing.assert_array_equal(ours, theirs.ravel())


def test_libraries_are_identified(tmp_path, request):
    """As a class that contains them; `--long 1` takes all that are recorded."""
    some = ["tensorflow crop_and_resize Matterport@0", "mindspore roi_end_mode=1@0"]
    files = [tmp_path / f"{name}.npy" for name in ("theirs", "map", "boxes")]
    for path, array in zip(files[1:], (GOLDEN["features"], GOLDEN["boxes"]), strict=True):
        np.save(path, array)
    for key in RECORDED if request.config.getoption("--long") else some:
        np.save(files[0], GOLDEN[key])
        found = roicli.identify(*files, size=SIZE, spatial_scale=SCALE)
        first = found.answers[0]
        said = ", ".join((first.settings, *first.convention, *first.same))
        assert found.fits, key
        assert not first.boxes, key
        assert CALLS[key.partition("@")[0]] in said or "mindspore roi_end_mode=0@2" in key, (key, said)
        # Two answers only where these boxes cannot tell: RoIPool rounds a pixel away.
        assert len(found.answers) == 1 or "roi_pool" in key, key
