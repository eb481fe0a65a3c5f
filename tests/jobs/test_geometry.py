"""Where regions lie on maps: sizes of images, strides, and maps that do not fit."""

import json

import numpy as np
import pytest
from driving import run

import roicli
from roicli.errors import BoxError, FeatureError, FileError, UsageError
from roicli.jobs.geometry import Geometry
from roicli.jobs.mapsizes import infer_stride

IMAGES = {"139": (426, 640), "285": (640, 586)}  # height, width
RESIZED = {"139": (50, 76), "285": (55, 50)}  # maps of shortest-edge:800,1333, padded to 32, stride 16
PLAIN = {"139": (27, 40), "285": (40, 37)}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, maps in (("resized.npz", RESIZED), ("plain.npz", PLAIN)):
        np.savez(tmp_path / name, **{key: rng.random((2, *size), np.float32) for key, size in maps.items()})
    images = [{"id": int(key), "height": h, "width": w} for key, (h, w) in IMAGES.items()]
    boxes = [{"image_id": int(key), "bbox": [10, 20, 300, 200]} for key in IMAGES]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": boxes}))
    (tmp_path / "results.json").write_text(json.dumps(boxes))
    lines = [f"{key},{w},{h}" for key, (h, w) in IMAGES.items()]
    (tmp_path / "sizes.csv").write_text("\n".join(["ImageID,width,height", *lines]))
    (tmp_path / "image_data.json").write_text(
        json.dumps([{"image_id": int(key), "width": w, "height": h, "url": ""} for key, (h, w) in IMAGES.items()])
    )
    (tmp_path / "by_id.json").write_text(json.dumps({key: {"height": h, "width": w} for key, (h, w) in IMAGES.items()}))
    return tmp_path


def pooled(folder, *names, **settings):
    output = folder / "out.npy"
    report = roicli.align(*(folder / name for name in names), output, size=2, aligned=True, overwrite=True, **settings)
    return np.load(output), report


SHORTEST = {"preprocess": "shortest-edge:800,1333", "stride": 16}


def test_sizes_from_any_file_give_the_same(folder):
    expected, _ = pooled(folder, "resized.npz", "coco.json", **SHORTEST)
    scaled = [
        [10 * rx, 20 * ry, 310 * rx, 220 * ry]
        for rx, ry in ((1202 / 640, 800 / 426), (800 / 586, 874 / 640))
    ]  # fmt: skip
    by_hand = {key: [box] for key, box in zip(IMAGES, scaled, strict=True)}
    (folder / "by_hand.json").write_text(json.dumps(by_hand))
    np.testing.assert_array_equal(pooled(folder, "resized.npz", "by_hand.json", spatial_scale=1 / 16)[0], expected)
    for name in ("coco.json", "sizes.csv", "image_data.json", "by_id.json"):
        found, _ = pooled(folder, "resized.npz", "results.json", image_size=folder / name, **SHORTEST)
        np.testing.assert_array_equal(found, expected)


def test_a_file_of_numbers_an_image(folder):
    expected, _ = pooled(folder, "resized.npz", "coco.json", **SHORTEST)
    (folder / "affine.csv").write_text(
        f"image_id,rx,ry\n139,{1202 / 640!r},{800 / 426!r}\n285,{800 / 586!r},{874 / 640!r}"
    )
    np.testing.assert_array_equal(
        pooled(folder, "resized.npz", "results.json", preprocess=folder / "affine.csv", stride=16)[0], expected
    )
    inputs = {"139": {"input_height": 800, "input_width": 1202}, "285": {"input_height": 874, "input_width": 800}}
    (folder / "inputs.json").write_text(json.dumps(inputs))
    np.testing.assert_array_equal(
        pooled(folder, "resized.npz", "coco.json", preprocess=folder / "inputs.json", stride=16)[0], expected
    )
    with pytest.raises(BoxError, match="sizes of 2 of 2 images are not known"):
        pooled(folder, "resized.npz", "results.json", preprocess=folder / "inputs.json", stride=16)
    with pytest.raises(FileError, match="No such file"):
        pooled(folder, "resized.npz", "coco.json", preprocess=folder / "gone.csv", stride=16)
    (folder / "affine.csv").write_text("image_id,rx,ry\n139,1,1")
    with pytest.raises(BoxError, match="lacks 1 image of 2: '285'"):
        pooled(folder, "resized.npz", "results.json", preprocess=folder / "affine.csv", stride=16)


def test_missing_sizes_are_counted(folder):
    with pytest.raises(BoxError) as error:
        pooled(folder, "resized.npz", "results.json", **SHORTEST)
    assert error.value.message.endswith("results.json: the sizes of 2 of 2 images are not known: '139', '285'")
    assert "`image_size=FILE`" in error.value.hint
    (folder / "one.csv").write_text("image_id,height,width\n000000000139.jpg,426,640\n")
    with pytest.raises(BoxError, match="the sizes of 1 of 2 images are not known: '285'"):
        pooled(folder, "resized.npz", "results.json", image_size=folder / "one.csv", **SHORTEST)


def test_maps_that_do_not_fit_are_refused(folder):
    """Otherwise a resized image with a stride of 16 gives numbers that look right."""
    with pytest.raises(FeatureError) as error:
        pooled(folder, "resized.npz", "coco.json", spatial_scale=1 / 16)
    assert error.value.message.endswith(
        "resized.npz: 2 of 2 maps do not have the size of their images; image '139' is 426 x 640 pixels: expected "
        "27 x 40 to 28 x 40 cells at stride 16, found 50 x 76"
    )
    assert error.value.hint == ("`preprocess=shortest-edge:800,1333` would fit. `size_check=False` pools all the same.")
    _, report = pooled(folder, "resized.npz", "coco.json", spatial_scale=1 / 16, size_check=False)
    assert report.warnings == (error.value.message,)
    with pytest.raises(FeatureError) as error:
        pooled(folder, "resized.npz", "coco.json", preprocess="shortest-edge:800,1333", stride=8)
    assert "800 x 1202 as the network's input: expected 100 x 151 to 100 x 152 cells at stride 8" in error.value.message
    assert error.value.hint.startswith("`stride=16` would fit.")


@pytest.mark.parametrize("change", [-1, 0, 1, 2])
def test_one_cell_more_or_less_is_right(folder, change):
    np.savez(folder / "maps.npz", **{key: np.ones((2, h + change, w), np.float32) for key, (h, w) in PLAIN.items()})
    if change < 2:
        assert pooled(folder, "maps.npz", "coco.json", stride=16)[1].warnings == ()
    else:
        with pytest.raises(FeatureError, match=r"1 of 2 maps .* image '285' .* found 42 x 37"):
            pooled(folder, "maps.npz", "coco.json", stride=16)


def test_check_says_what_sizes_of_images_say(folder):
    for name, remedy in (
        ("plain.npz", "The sizes of images and maps fit `spatial_scale=1/16`"),
        ("resized.npz", "The sizes of images and maps fit `preprocess=shortest-edge:800,1333` with `stride=16`"),
    ):
        (warning,) = roicli.check(folder / name, folder / "coco.json", aligned=True).warnings
        assert warning.endswith(f"Is `spatial_scale` missing? {remedy}")


def test_check_and_trace_show_every_step(folder):
    arguments = ["--preprocess", "shortest-edge:800,1333", "--stride", "16", "--aligned"]
    shown = run(folder, "check", "resized.npz", "coco.json", *arguments).stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "in pixels x 10 to 310, y 20 to 220, of 426 x 640" in lines
    assert "in the input x 18.7812 to 582.219, y 37.5587 to 413.146, of 800 x 1202" in lines
    assert "in cells x 0.673828 to 35.8887, y 1.84742 to 25.3216, 0 is the center of the first cell" in lines
    report = roicli.check(folder / "resized.npz", folder / "coco.json", aligned=True, **SHORTEST)
    assert report.example.steps.input_size == (800, 1202)
    traced = json.loads(run(folder, "trace", "resized.npz", "coco.json", *arguments, "--json").stdout)
    (cells,) = (one["roi"] for one in traced["traces"])
    np.testing.assert_allclose(cells, report.example.cells, rtol=1e-6)
    assert traced["input_size"] == [800, 1202]
    given = run(folder, "trace", "resized.npz", "--image", "139", "--box", "10,20,310,220", "--image-size", "426x640",
                *arguments, "--json")  # fmt: skip
    assert json.loads(given.stdout)["traces"] == traced["traces"]
    unit = run(folder, "trace", "resized.npz", "--image", "139", "--box", "0.25,0.5,0.5,1", "--image-size", "426x640",
               "--normalized", *arguments).stdout  # fmt: skip
    lines = [" ".join(line.split()) for line in unit.splitlines()]
    assert "in pixels x 160 to 320, y 213 to 426 (160 wide, 213 high)" in lines
    assert "in the input x 300.5 to 601, y 400 to 800 (300.5 wide, 400 high)" in lines


def test_boxes_in_0_to_1_are_of_the_image(folder):
    expected, _ = pooled(folder, "plain.npz", "coco.json", stride=16)
    rows = [f"{key},{10 / w!r},{310 / w!r},{20 / h!r},{220 / h!r}" for key, (h, w) in IMAGES.items()]
    (folder / "unit.csv").write_text("\n".join(["ImageID,XMin,XMax,YMin,YMax", *rows]))
    sizes = {"normalized": True, "image_size": folder / "sizes.csv"}
    np.testing.assert_allclose(pooled(folder, "plain.npz", "unit.csv", stride=16, **sizes)[0], expected, atol=1e-5)
    found, report = pooled(folder, "plain.npz", "unit.csv", **sizes)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert any(note.startswith("stride 16 follows from the sizes") for note in report.notes)
    by_map, report = pooled(folder, "plain.npz", "unit.csv", normalized=True)
    assert abs(by_map - expected).max() > 1e-3
    assert "the sizes of images are not known, so boxes in 0..1 are taken of the maps" in report.warnings[0]
    # A squashed image is a square, whatever its size.
    np.savez(folder / "square.npz", **{key: np.ones((2, 14, 14), np.float32) for key in IMAGES})
    assert (
        pooled(folder, "square.npz", "unit.csv", normalized=True, preprocess="squash:224", stride=16)[1].warnings == ()
    )


def test_two_scales(folder):
    one, _ = pooled(folder, "plain.npz", "coco.json", spatial_scale=(1 / 16, 1 / 16))
    np.testing.assert_array_equal(one, pooled(folder, "plain.npz", "coco.json", stride=16)[0])
    other, _ = pooled(folder, "plain.npz", "results.json", stride=(16, 20))
    assert abs(other - one).max() > 1e-3
    shown = run(folder, "align", "plain.npz", "results.json", "-o", "o.h5", "--stride", "16,20").stderr
    assert "2 boxes" in shown
    assert "0.0625,0.05" in run(folder, "info", "o.h5").stdout
    assert Geometry(stride=14).scale == (1 / 14, 1 / 14)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stride": 16, "spatial_scale": 1 / 16}, "say the same"),
        ({"stride": 0}, "stride must be positive"),
        ({"stride": (16, -1)}, "stride must be positive"),
        ({"spatial_scale": (0.5, float("nan"))}, "is not a positive number"),
        ({"preprocess": "resize:800"}, "preprocess 'resize:800' is not known"),
        ({"preprocess": "none", "image_size": "0x5", "stride": 16}, "is not positive"),
    ],
)
def test_settings_that_cannot_be_meant(folder, settings, said):
    with pytest.raises(UsageError, match=said):
        pooled(folder, "plain.npz", "results.json", **settings)


def test_widths_and_heights_of_boxes_are_not_those_of_images(folder):
    (folder / "boxes.csv").write_text(
        "image_id,x1,y1,x2,y2,width,height\n139,10,20,310,220,300,200\n285,0,0,90,80,90,80"
    )
    assert pooled(folder, "plain.npz", "boxes.csv", stride=16)[1].warnings == ()


def test_a_changed_file_of_sizes_is_another_job(folder):
    arguments = ["align", "resized.npz", "results.json", "-o", "out.npy", "--stride", "16", "--resume",
                 "--preprocess", "shortest-edge:800,1333", "--image-size", "sizes.csv"]  # fmt: skip
    run(folder, *arguments)
    run(folder, *arguments)
    text = (folder / "sizes.csv").read_text()
    (folder / "sizes.csv").write_text(text + "\n")
    assert "sizes.csv" in run(folder, *arguments, expect=3).stderr


def test_the_stride_that_sizes_have_in_common():
    sizes = np.array([[426.0, 640], [640, 586]])
    assert infer_stride(sizes, np.array([[27.0, 40], [40, 37]]), 32) == 16
    assert infer_stride(sizes, np.array([[27.0, 40], [40, 40]]), 32) is None
    assert infer_stride(np.array([[518.0, 518]]), np.array([[37.0, 37]]), 1) == 14


def test_maps_stored_the_other_way_are_named(folder):
    np.savez(folder / "hwc.npz", **{"139": np.ones((27, 40, 8), np.float32)})
    (folder / "one.json").write_text('{"139": [[10, 20, 300, 400]]}')
    settings = {"stride": 16, "image_size": "426x640"}
    with pytest.raises(FeatureError) as error:
        pooled(folder, "hwc.npz", "one.json", **settings)
    assert error.value.hint == "If the maps are stored the other way, give `layout=hwc`."
    assert pooled(folder, "hwc.npz", "one.json", layout="hwc", **settings)[1].warnings == ()


def test_maps_padded_to_the_largest_are_explained(folder):
    maps = {key: np.ones((2, 40, 40), np.float32) for key in IMAGES}
    np.savez(folder / "batch.npz", **maps)
    with pytest.raises(FeatureError) as error:
        pooled(folder, "batch.npz", "coco.json", stride=16)
    assert error.value.hint.startswith("The maps may have been padded to the largest one, right and below")


def test_boxes_in_pixels_of_the_input_are_noticed(folder):
    boxes = {"139": [[600, 300, 1200, 790], [10, 500, 900, 780]], "285": [[300, 500, 790, 860]]}
    (folder / "input.json").write_text(json.dumps(boxes))
    settings = {"image_size": folder / "sizes.csv", **SHORTEST}
    (warning,) = roicli.check(folder / "resized.npz", folder / "input.json", **settings).warnings
    assert "If they are in pixels of the network's input already, leave `preprocess` out" in warning


def test_boxes_that_leave_one_way_need_two_scales(tmp_path):
    np.save(tmp_path / "map.npy", np.ones((8, 30, 40), np.float32))
    starts = np.random.default_rng(0).uniform(0, 400, (50, 2))
    boxes = np.concatenate([starts, starts + 75], axis=1) * [2.2, 1, 2.2, 1]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes.tolist()))
    (warning,) = roicli.check(tmp_path / "map.npy", tmp_path / "boxes.json", spatial_scale=1 / 16).warnings
    assert "They leave on the right only: give two numbers for `spatial_scale`, y and x" in warning


def test_shards_of_resized_images_make_the_whole(folder):
    expected, _ = pooled(folder, "resized.npz", "results.json", image_size=folder / "sizes.csv", **SHORTEST)
    arguments = ["--size", "2", "--aligned", "--stride", "16", "--preprocess", "shortest-edge:800,1333"]
    (folder / "copy.csv").write_text((folder / "sizes.csv").read_text())  # another node may name it otherwise
    for shard, sizes in (("1/2", "sizes.csv"), ("2/2", "copy.csv")):
        output = f"part{shard[0]}.npz"
        run(folder, "align", "resized.npz", "results.json", "-o", output, "--shard", shard, *arguments,
            "--image-size", sizes)  # fmt: skip
    run(folder, "merge", "whole.npz", "part1.npz", "part2.npz")
    np.testing.assert_array_equal(np.load(folder / "whole.npz")["features"], expected)
    run(folder, "align", "resized.npz", "results.json", "-o", "part2.npz", "--shard", "2/2", "--size", "2", "--aligned",
        "--stride", "16", "--no-size-check", "--image-size", "sizes.csv", "--overwrite")  # fmt: skip
    assert "different jobs" in run(folder, "merge", "other.npz", "part1.npz", "part2.npz", expect=3).stderr


def test_boxes_of_smaller_images_are_noticed_without_sizes(tmp_path):
    np.savez(tmp_path / "maps.npz", a=np.ones((2, 50, 76), np.float32))  # of 426 x 640 pixels, resized
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, [600, 380], (60, 2))
    boxes = np.concatenate([starts, starts + 40], axis=1).round(2).tolist()
    (tmp_path / "boxes.json").write_text(json.dumps({"a": boxes}))
    paths = tmp_path / "maps.npz", tmp_path / "boxes.json"
    (warning,) = roicli.check(*paths, stride=16).warnings
    assert "of their maps. If the images were resized, give `preprocess` and `image_size`" in warning
    assert roicli.check(*paths, image_size="426x640", **SHORTEST).warnings == ()
