"""Masks end to end: from annotations to features, by the command line and from Python."""

import json
import os

import numpy as np
import pytest
from driving import run

import roicli
from roicli.errors import BoxError, UsageError
from roicli.pooling.arguments import make_spec
from roicli.pooling.mask_reference import mask_in_box_reference, mask_mean_reference

HEIGHT, WIDTH, STRIDE = 40, 56, 8
rng = np.random.default_rng(0)
MASKS = rng.random((4, HEIGHT, WIDTH)) < np.array([0.5, 0.02, 1, 0.3])[:, None, None]
MAPS = rng.standard_normal((2, 3, HEIGHT // STRIDE, WIDTH // STRIDE)).astype(np.float32)
IMAGE = [0, 1, 0, 1]


def segmentation(mask):
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, flat.size]).tolist()}


def dataset(masks=MASKS, **changes):
    images = [{"id": index, "height": HEIGHT, "width": WIDTH} for index in range(2)]
    annotations = [
        {"id": row, "image_id": IMAGE[row], "bbox": [0, 0, WIDTH, HEIGHT], "segmentation": segmentation(mask)}
        for row, mask in enumerate(masks)
    ]
    for row, value in changes.items():
        annotations[int(row[1:])]["segmentation"] = value
    return {"images": images, "annotations": annotations}


def expected(rule="coverage", reduce="mean", step=1 / STRIDE, begin=(0, 0)):
    return np.array(
        [
            mask_mean_reference(MAPS[image], mask, rule, (step, begin[0]), (step, begin[1]), reduce)
            for image, mask in zip(IMAGE, MASKS, strict=True)
        ]
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("maps.npz", **{str(index): MAPS[index] for index in range(2)})
    (tmp_path / "masks.json").write_text(json.dumps(dataset()))
    return tmp_path


def written(folder, content, name="masks.json"):
    (folder / name).write_text(json.dumps(content))


MADE = ("align", "maps.npz", "masks.json", "-o", "out.npy", "--stride", "8")


def align(folder, *options):
    done = run(folder, *MADE, "--op", "mask-mean", "--overwrite", *options)
    return np.load("out.npy"), done.stderr


def refused(folder):
    return run(folder, *MADE, "--op", "mask-mean", expect=3).stderr


@pytest.mark.parametrize("rule", ["coverage", "upsampled", "resize", "resize-antialias", "resize-any", "nearest"])
def test_a_dataset(folder, rule):
    found, _ = align(folder, "--mask-rule", rule)
    np.testing.assert_allclose(found, expected(rule), rtol=0, atol=1e-6)


def test_workers_batches_and_python_give_the_same_bytes(folder):
    found, _ = align(folder)
    again, _ = align(folder, "--workers", "2", "--batch-size", "1")
    np.testing.assert_array_equal(again, found)
    roicli.align("maps.npz", "masks.json", "python.npy", op="mask_mean", stride=8)
    np.testing.assert_array_equal(np.load("python.npy"), found)
    for part in ("1/2", "2/2"):
        run(folder, *MADE[:3], "-o", f"{part[0]}.npy", "--op", "mask-mean", "--stride", "8", "--shard", part)
    run(folder, "merge", "merged.npy", "1.npy", "2.npy")
    np.testing.assert_array_equal(np.load("merged.npy"), found)


def test_parts_and_reruns_see_that_masks_have_changed(folder):
    made = [*MADE[:3], "--op", "mask-mean", "--stride", "8"]
    run(folder, *made, "-o", "1.npy", "--shard", "1/2")
    run(folder, *made, "-o", "whole.npy", "--resume")
    stamp = (folder / "masks.json").stat()
    text = json.dumps(dataset(MASKS[::-1])).ljust(stamp.st_size)[: stamp.st_size]
    (folder / "masks.json").write_text(text)
    os.utime("masks.json", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    run(folder, *made, "-o", "2.npy", "--shard", "2/2")
    assert (
        "parts of different jobs: their boxes" in run(folder, "merge", "merged.npy", "1.npy", "2.npy", expect=3).stderr
    )
    assert "begun by another job: other boxes" in run(folder, *made, "-o", "whole.npy", "--resume", expect=3).stderr


def test_parts_of_label_images_see_that_pixels_have_changed(folder):
    made = ["align", "maps.npz", "labels", "--boxes-as", "label-npy", "--op", "mask-mean", "--stride", "8"]
    (folder / "labels").mkdir()
    for part, dots in (("1/2", 1), ("2/2", 3)):
        for image in "01":
            labels = np.zeros((HEIGHT, WIDTH), np.int64)
            labels[2, 2] = labels[20, 30] = labels[5:, 5] = 7
            labels[6, 6 : 6 + dots] = 7  # within the box
            np.save(f"labels/{image}.npy", labels)
        run(folder, *made, "-o", f"{part[0]}.npy", "--shard", part)
    assert (
        "parts of different jobs: their boxes" in run(folder, "merge", "merged.npy", "1.npy", "2.npy", expect=3).stderr
    )


@pytest.mark.parametrize(
    ("preprocess", "step", "begin"),
    [
        ("squash:40x56", 1 / 8, (0, 0)),
        ("squash:80x112", 1 / 8, (0, 0)),
        ("center-pad:32", 1 / 8, (12 / 8, 4 / 8)),  # 40 x 56 in 64 x 64
    ],
)
def test_masks_go_the_way_of_the_image(folder, preprocess, step, begin):
    stride = "16" if "80" in preprocess else "8"
    if "pad" in preprocess:
        np.savez("maps.npz", **{str(index): np.pad(MAPS[index], ((0, 0), (2, 1), (1, 0))) for index in range(2)})
        padded = [np.load("maps.npz")[str(index)] for index in IMAGE]
        there = [
            mask_mean_reference(one, mask, "upsampled", (step, begin[0]), (step, begin[1]))
            for one, mask in zip(padded, MASKS, strict=True)
        ]
        found, _ = align(folder, "--stride", stride, "--preprocess", preprocess, "--mask-rule", "upsampled")
    else:
        there = expected()
        found, _ = align(folder, "--stride", stride, "--preprocess", preprocess)
    np.testing.assert_allclose(found, there, rtol=0, atol=1e-6)


def test_regions_without_a_mask(folder):
    written(folder, dataset(_1=None, _2=[]))
    said = refused(folder)
    assert "masks.json, annotations 1, 2: without a mask, 2 of 4 boxes" in said
    found, said = align(folder, "--bad-boxes", "zero")
    there = expected()
    there[1:3] = 0
    np.testing.assert_allclose(found, there, rtol=0, atol=1e-6)
    assert "out.npy.skipped.csv" in said
    assert len(align(folder, "--bad-boxes", "skip")[0]) == 2
    written(folder, {"annotations": [{"id": 1, "image_id": 0, "bbox": [0, 0, 9, 9]}]}, "boxes.json")
    with pytest.raises(BoxError, match="without masks"):
        roicli.align("maps.npz", "boxes.json", "x.npy", op="mask_mean")


def test_masks_that_reach_no_cell(folder):
    nothing, between = np.zeros_like(MASKS[0]), np.zeros_like(MASKS[0])
    between[3, 3] = True  # not at a centre
    written(folder, dataset([MASKS[0], nothing, between, MASKS[3]]))
    found, said = align(folder, "--mask-rule", "nearest")
    assert "masks that reach no cell: 2 of 4; their features are zero" in said
    assert (found[1:3] == 0).all()
    assert found[0].any()
    assert "masks that reach no cell: 1 of 4" in align(folder)[1]
    report = roicli.check("maps.npz", "masks.json", op="mask_mean", mask_rule="nearest", stride=8)
    assert (report.masks, report.empty_masks) == (4, 2)
    assert "masks.json, annotations 1, 2: masks that reach no cell" in report.notes[-1]
    done = run(folder, "check", "maps.npz", "masks.json", "--op", "mask-mean", "--stride", "8")
    assert "4 decoded, 1 reach no cell" in done.stdout


def test_masks_that_are_not_used_are_said(folder):
    done = run(folder, *MADE)
    assert "masks.json: its masks are not read, since boxes are pooled (--op mask-mean pools masks)" in done.stderr
    assert "not read" not in align(folder)[1]


def test_a_mask_of_another_size_than_its_image(folder):
    written(folder, dataset(_3=segmentation(MASKS[3][:, 1:])))
    said = refused(folder)
    assert "masks.json, annotation 3: a mask of 40 x 55 pixels (height x width) for an image of 40 x 56" in said


def test_settings_are_part_of_an_output(folder):
    made = [*MADE[:3], "-o", "out.npz", "--op", "mask-mean", "--stride", "8", "--resume"]
    run(folder, *made)
    with np.load("out.npz") as archive:
        parameters = json.loads(str(archive["parameters"]))
    assert (parameters["mask_rule"], parameters["output_height"], parameters["reduce"]) == ("coverage", 1, "mean")
    run(folder, *made)
    assert "another job" in run(folder, *made, "--mask-rule", "nearest", expect=3).stderr
    with pytest.raises(UsageError, match="one vector"):
        roicli.align("maps.npz", "masks.json", "x.npy", op="mask_mean", size=3)


def test_a_trace_shows_the_cells_and_their_weights(folder):
    options = ["trace", "maps.npz", "masks.json", "--op", "mask-mean", "--stride", "8", "--roi", "1", "--channel", "2"]
    traced = json.loads(run(folder, *options, "--json", "--quiet").stdout)["traces"][0]
    assert traced["result"] == pytest.approx(expected()[1, 2], abs=1e-6)
    assert abs(traced["difference"]) < 1e-6
    shares = np.array(traced["samples"]["shares"])
    assert shares.sum() == pytest.approx(1, abs=1e-6)
    cells = [row[0] for row in traced["samples"]["rows"]], [column[0] for column in traced["samples"]["columns"]]
    covered = MASKS[1].reshape(5, 8, 7, 8).mean(axis=(1, 3))
    np.testing.assert_allclose(shares, covered[cells] / covered.sum(), atol=1e-6)
    shown = run(folder, *options, "--footprint", "--vs", "roi-align", "--picture", "bin.png").stdout
    assert "mask pooling, coverage" in shown
    assert "sum of share" in shown
    assert (folder / "bin.png").stat().st_size > 0
    written(folder, dataset(_1=[[1, 1, 2, 2]]))
    assert "This bin has no cells" in run(folder, *options).stdout


def test_boxes_are_pooled_from_masked_maps(folder):
    options = ["--op", "mask-in-box", "--size", "3x2", "--aligned", "--stride", "8"]
    run(folder, *MADE, *options)
    spec = make_spec((3, 2), op="mask_in_box", aligned=True)
    there = [
        mask_in_box_reference(MAPS[image], mask, np.array([0, 0, WIDTH, HEIGHT]), spec, (1 / 8, 1 / 8))
        for image, mask in zip(IMAGE, MASKS, strict=True)
    ]
    np.testing.assert_allclose(np.load("out.npy"), there, rtol=0, atol=1e-6)
    shown = run(folder, "trace", *MADE[1:3], *options, "--roi", "1", "--picture", "bin.png").stdout
    assert "masked RoIAlign aligned, adaptive, mask by coverage" in shown
    assert "times the mask" in shown
    said = run(folder, *MADE, *options, "--mask-rule", "upsampled", "--overwrite", expect=2).stderr
    assert "upsampled enlarges the map" in said
    assert "--mask-rule coverage" in said


def test_masks_of_segment_anything_say_the_sizes_of_their_images(folder):
    """So that images may have been padded."""
    (folder / "sam").mkdir()
    for image in (0, 1):
        masks = [
            {"segmentation": segmentation(mask), "bbox": [0, 0, WIDTH, HEIGHT], "area": 1, "predicted_iou": 1.0}
            for row, mask in enumerate(MASKS)
            if IMAGE[row] == image
        ]
        written(folder, masks, f"sam/{image}.json")
    np.savez("maps.npz", **{str(index): np.pad(MAPS[index], ((0, 0), (2, 1), (1, 0))) for index in range(2)})
    roicli.align("maps.npz", "sam", "out.npy", op="mask_mean", stride=8, preprocess="center-pad:32")
    padded = [np.load("maps.npz")[str(image)] for image in IMAGE]
    there = [
        mask_mean_reference(padded[row], MASKS[row], "coverage", (1 / 8, 1.5), (1 / 8, 0.5)) for row in (0, 2, 1, 3)
    ]
    np.testing.assert_allclose(np.load("out.npy"), there, rtol=0, atol=1e-6)


def test_label_images(folder):
    labels = np.where(MASKS[3], 9, np.where(MASKS[1], 4, 0)).astype(np.uint8)
    np.save("1.npy", labels)
    roicli.align("maps.npz", "1.npy", "out.npy", op="mask_mean", stride=8, index="rows.csv", boxes_as="label-npy")
    there = [mask_mean_reference(MAPS[1], labels == label, "coverage", (1 / 8, 0), (1 / 8, 0)) for label in (4, 9)]
    np.testing.assert_allclose(np.load("out.npy"), there, rtol=0, atol=1e-6)
    assert "1,1,9," in (folder / "rows.csv").read_text()
