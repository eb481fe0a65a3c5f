"""`roicli check`: what align would do, where it would refuse, and the mistakes that it recognises."""

import json

import numpy as np
import pytest
from driving import Silent, run

import roicli
from roicli.errors import RoicliError
from roicli.jobs.align import AlignJob, align
from roicli.jobs.check import check
from roicli.jobs.geometry import Geometry
from roicli.jobs.options import grouped
from roicli.jobs.prepare import PoolJob
from roicli.regions import BoxFormat
from roicli.spec import PoolSpec

STRIDE = 16
WIDTH, HEIGHT = 640, 368


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two maps of stride 16; each test writes boxes of its own."""
    path = tmp_path_factory.mktemp("check")
    rng = np.random.default_rng(0)
    np.save(path / "feats.npy", rng.standard_normal((2, 8, HEIGHT // STRIDE, WIDTH // STRIDE)).astype(np.float32))
    return path


def good_boxes(number=200):
    """Boxes as annotators draw them: anywhere in the image, of any size, none beyond its borders."""
    rng = np.random.default_rng(5)
    size = np.exp(rng.uniform(np.log(20), np.log(300), (number, 2)))
    start = rng.uniform(0, 1, (number, 2)) * (np.array([WIDTH, HEIGHT]) - size)
    return np.concatenate([start, start + size], axis=1)


def checked(folder, boxes, scale=1 / STRIDE, **more):
    """Check boxes in this process; returns the report, its warnings, and the error if it would be refused."""
    images = np.arange(len(boxes)) % 2
    np.save(folder / "boxes.npy", np.insert(boxes, 0, images, axis=1))
    settings = {"spec": PoolSpec((7, 7), aligned=True), "spatial_scale": scale} | more
    listener = Silent()
    warnings = listener.warnings
    try:
        report = check(PoolJob(str(folder / "feats.npy"), folder / "boxes.npy", **grouped(settings)), listener)
    except RoicliError as error:
        return None, warnings, error
    assert list(report.warnings) == warnings
    # Batch indices say no sizes of images.
    return report, [text for text in warnings if "boxes in 0..1 are taken of the maps" not in text], None


def test_boxes_as_they_should_be(folder):
    report, warnings, _ = checked(folder, good_boxes())
    assert warnings == []
    assert (report.boxes, report.images, report.maps) == (200, 2, 2)
    assert (report.partly_outside, report.wholly_outside) == (0, 0)
    assert (report.shape, report.dtype, report.bytes) == ((200, 8, 7, 7), "float32", 200 * 8 * 49 * 4)


def as_xywh(boxes):
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


IN_IMAGE = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])


@pytest.mark.parametrize(
    ("boxes", "settings", "warning"),
    [
        (as_xywh(good_boxes()), {}, "may be x, y, width, height; give `box_format=xywh`"),
        (good_boxes()[:, [2, 3, 0, 1]], {}, "may be x2, y2, x1, y1; write the upper left corner first"),
        (good_boxes()[:, [0, 2, 1, 3]], {}, "may be x1, x2, y1, y2; write x1, y1, x2, y2"),
        (
            good_boxes()[:, [1, 0, 3, 2]],
            {},
            "boxes beyond their maps, at least in part: 94 of 200. With x and y exchanged they would fit; write x",
        ),
        (good_boxes(), {"box_format": BoxFormat.XYWH}, "Read as xyxy they would fit; give `box_format=xyxy`"),
        (
            good_boxes() / IN_IMAGE,
            {"box_format": BoxFormat.XYWH, "normalized": True},
            "Read as xyxy they would fit; give `box_format=xyxy`",
        ),
        (
            good_boxes(),
            {"scale": 1.0},
            "Is `spatial_scale` missing? A guess is `spatial_scale=1/16`: check the stride of the maps",
        ),
        (good_boxes(), {"scale": 1 / 4}, "Is `spatial_scale` right? A guess is `spatial_scale=1/16`: check the"),
        (good_boxes(), {"scale": 16.0}, "Spatial scale 16 looks like a stride; give `spatial_scale=1/16`"),
        (good_boxes() / STRIDE, {}, "boxes smaller than one cell of their maps: 178 of 200. Is `spatial_scale` right?"),
        (
            good_boxes() / IN_IMAGE,
            {},
            "boxes.npy: all boxes lie within 0 and 1; if they are in 0..1 of the image, give `normalized`",
        ),
        (good_boxes(), {"normalized": True}, "If they are in pixels, leave `normalized` out and give `spatial_scale`"),
        (np.full((3, 4), 500.0), {"scale": 1 / 32}, "boxes with no width or no height: 3 of 3. Were they never filled"),
        (good_boxes() + 9e4, {"scale": 3.0}, "mostly or wholly: 200 of 200. Is `spatial_scale` right?"),
    ],
)
def test_mistakes(folder, boxes, settings, warning):
    """Each gives one warning, which names the remedy, whether align would go on or not."""
    _, warnings, _ = checked(folder, boxes, **settings)
    assert len(warnings) == 1
    assert warning in warnings[0].replace(f"{folder}/", "")


@pytest.mark.parametrize("numbers", ["xyxy", "xywh"])
def test_areas_say_what_the_numbers_are(folder, numbers):
    """Boxes in the upper left of their images stay there in either reading."""
    boxes = (good_boxes(40) / 8).round(1)
    written = boxes if numbers == "xyxy" else as_xywh(boxes)
    for reading, area, warns in (
        ("xyxy", (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), numbers == "xyxy"),
        ("outline", np.full(40, 7.0), False),
    ):
        rows = [
            {"image_id": n % 2, "bbox": box, "area": size}
            for n, (box, size) in enumerate(zip(written.tolist(), area.tolist(), strict=True))
        ]
        (folder / "areas.json").write_text(json.dumps(rows))
        job = PoolJob(
            str(folder / "feats.npy"),
            folder / "areas.json",
            PoolSpec((2, 2)),
            geometry=Geometry(spatial_scale=1 / STRIDE),
        )
        warnings = check(job, Silent()).warnings
        assert any(f"read as {reading}, not as xywh; give `box_format={reading}`" in text for text in warnings) == warns


ONE = good_boxes()[:1]


@pytest.mark.parametrize(
    ("boxes", "settings", "warning"),
    [
        (ONE, {"scale": 1.0}, "boxes beyond their maps, mostly or wholly: 1 of 1. Is `spatial_scale` missing?"),
        (ONE / STRIDE, {}, "boxes smaller than one cell of their maps: 1 of 1. Is `spatial_scale` right?"),
        (ONE / IN_IMAGE, {}, "boxes.npy: all boxes lie within 0 and 1; if they are in 0..1 of the image, give"),
        (
            np.array([[300.0, 200, 80, 60]]),
            {},
            "boxes.npy, boxes with x2 < x1 or y2 < y1, read as xyxy: 1 of 1. The numbers may be x, y, ",
        ),
        (ONE - 900, {}, "boxes beyond their maps, mostly or wholly: 1 of 1. They lie on the left or above, where no"),
        (np.zeros((0, 4)), {}, ""),
    ],
)
def test_one_box_or_none(folder, boxes, settings, warning):
    _, warnings, _ = checked(folder, boxes, **settings)
    assert "".join(warnings).replace(f"{folder}/", "")[: len(warning)] == warning


def test_align_warns_as_check_does(folder, tmp_path):
    """On the terminal, and in its report."""
    _, [warning], _ = checked(folder, good_boxes(), scale=1.0)
    listener = Silent()
    spec = PoolSpec((7, 7), aligned=True)
    report = align(AlignJob(str(folder / "feats.npy"), folder / "boxes.npy", spec, output=tmp_path / "o.npy"), listener)
    assert listener.warnings == [warning]
    assert report.warnings == (warning,)
    assert warning not in report.notes
    done = run(folder, "align", "feats.npy", "boxes.npy", "-o", tmp_path / "p.npy")
    assert (
        "\nwarning: boxes beyond their maps, mostly or wholly: 200 of 200. Is --spatial-scale missing?" in done.stderr
    )
    assert "A guess is --spatial-scale 1/16: check the stride of the maps\n" in done.stderr


def test_small_objects_as_xywh_are_not_taken_for_swapped_corners(folder):
    """Though hardly any is as wide as it is far from the left."""
    rng = np.random.default_rng(3)
    start = rng.uniform(20, [WIDTH - 20, HEIGHT - 20], (300, 2))
    _, [warning], _ = checked(folder, np.concatenate([start, rng.uniform(4, 9, (300, 2))], axis=1))
    assert "may be x, y, width, height" in warning


def test_tables_of_no_boxes_and_of_one(folder, tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 5)))
    np.save(tmp_path / "one.npy", [[0, 9e3, 9e3, 9.1e3, 9.1e3]])
    np.save(tmp_path / "bad.npy", [[0, 5, 5, np.nan, 9]])
    said = run(tmp_path, "check", folder / "feats.npy", "none.npy").stdout
    assert "0 boxes of 0 images" in said
    assert "leave their maps" not in said
    done = run(tmp_path, "check", folder / "feats.npy", "one.npy", "--spatial-scale", "1/16")
    assert "note: boxes wholly outside their maps: 1 of 1; their features are zero" in done.stderr
    assert "on the map      none of it" in done.stdout
    said = run(tmp_path, "check", folder / "feats.npy", "bad.npy", "--bad-boxes", "zero").stdout
    assert "pooled    0 boxes of 1 image" in said
    assert "1 box written as zeros" in said
    done = run(tmp_path, "check", folder / "feats.npy", "bad.npy", expect=3)
    assert "error: bad.npy, box 0: NaN, infinite or beyond 1e9 pixels, 1 of 1 box; the first is [5.0" in done.stderr


def write_maps(folder, *shape, filled=1.0):
    """Maps of zeros but for their first cell, which take no room on the disk."""
    maps = np.lib.format.open_memmap(folder / "feats.npy", "w+", np.float32, shape)
    maps[(slice(None), *[0] * len(shape[1:]))] = filled


C, H, W = 256, HEIGHT // STRIDE, WIDTH // STRIDE


@pytest.mark.parametrize(
    ("shape", "settings", "number", "warning"),
    [
        ((H, W, C), {}, 200, f"maps of {H} channels, {W} cells high and {C} wide, are unusual: if they are stored the "
         f"other way, with {C} channels, give `layout=hwc`"),
        ((C, H, W), {"layout": "hwc"}, 200, "If the maps are stored the other way, give `layout=chw`"),
        ((H, W, C), {}, 7, f"maps of {H} channels, {W} cells high and {C} wide, are unusual: if they are stored the "),
        ((H, W, 8), {}, 200, "If the maps are stored the other way, give `layout=hwc`"),
        ((8, H, W), {"layout": "hwc"}, 7, "If the maps are stored the other way, give `layout=chw`"),
        ((7, 7, 2048), {"scale": 1 / 128}, 3, "maps of 7 channels, 7 cells high and 2048 wide, are unusual"),
        ((7, 7, 2048), {"normalized": True}, 3, "maps of 7 channels, 7 cells high and 2048 wide, are unusual"),
    ],
)  # fmt: skip
def test_another_layout(tmp_path, shape, settings, number, warning):
    write_maps(tmp_path, 2, *shape)
    boxes = good_boxes(number) / (IN_IMAGE if "normalized" in settings else 1)
    _, warnings, _ = checked(tmp_path, boxes, **settings)
    assert len(warnings) == 1
    assert warning in warnings[0]


def test_maps_of_zeros(tmp_path):
    """Nobody means them: an extraction that was killed, or a file that was never filled."""
    write_maps(tmp_path, 3, 4, 9, 12, filled=0.0)
    (tmp_path / "boxes.json").write_text("[[0, 0, 0, 9, 9], [1, 2, 2, 7, 8], [2, 1, 0, 3, 4]]")
    job = "feats.npy", "boxes.json", "--size", "2"
    before = "warning: all values of feats.npy, map 0 and of feats.npy, map 2 are zero: were they never written?"
    after = "warning: all features are zero, though boxes reach their maps: feats.npy holds nothing else there"
    assert before in run(tmp_path, "check", *job, "--strict", expect=1).stderr.splitlines()
    said = run(tmp_path, "align", *job, "-o", "out.npy").stderr.splitlines()
    assert before in said
    assert after in said
    write_maps(tmp_path, 3, 4, 9, 12, filled=[0, 0, 1])  # where the box on the last map does not reach
    (tmp_path / "boxes.json").write_text("[[0, 0, 0, 9, 9], [2, 5, 5, 7, 8]]")
    said = run(tmp_path, "align", *job, "-o", "out.npy", "--overwrite").stderr.splitlines()
    assert after in said
    assert before not in said
    write_maps(tmp_path, 3, 4, 9, 12, filled=[1, 0, 0])
    (tmp_path / "boxes.json").write_text("[[0, 0, 0, 9, 9], [1, 0, 0, 7, 8], [2, 5, 5, 7, 8]]")
    assert "warning" not in run(tmp_path, "align", *job, "-o", "out.npy", "--overwrite").stderr
    (tmp_path / "boxes.json").write_text("[[1, 99, 99, 100, 100]]")  # why is said already
    assert after not in run(tmp_path, "align", *job, "-o", "out.npy", "--overwrite").stderr


def test_another_layout_of_maps_that_differ(tmp_path):
    np.savez(tmp_path / "feats.npz", a=np.zeros((20, 30, 64), np.float32), b=np.zeros((25, 30, 64), np.float32))
    (tmp_path / "boxes.json").write_text('{"a": [[0, 0, 9, 9]], "b": [[0, 0, 9, 9]]}')
    done = run(tmp_path, "check", "feats.npz", "boxes.json", expect=3)
    assert "need the same channels; stored the other way they have 64: give --layout hwc." in done.stderr
    run(tmp_path, "check", "feats.npz", "boxes.json", "--layout", "hwc")


@pytest.mark.parametrize("channels", [40, 64, 256])
@pytest.mark.parametrize("height", [368, 560, 640])
def test_exchanged_axes_are_named_alone(tmp_path, channels, height):
    """Not as a layout that would suit as well, but whose maps would be longer; however few leave their maps."""
    write_maps(tmp_path, 2, channels, height // STRIDE, WIDTH // STRIDE)
    boxes = good_boxes() * (1, height / HEIGHT, 1, height / HEIGHT)
    _, warnings, _ = checked(tmp_path, boxes[:, [1, 0, 3, 2]])
    assert len(warnings) == (height < WIDTH)
    for warning in warnings:
        assert warning.endswith(". With x and y exchanged they would fit; write x before y")
        assert int(warning.split(" of 200.")[0].split()[-1]) > 20


@pytest.mark.parametrize("number", [1, 3, 300])
@pytest.mark.parametrize("largest", [12, 300])
def test_ordinary_boxes_give_no_warning(tmp_path, number, largest):
    """Of images of many shapes, maps of many channels, objects small and large, also in 0..1 of the image."""
    rng = np.random.default_rng(number)
    sizes = ((640, 480), (800, 1333), (512, 512), (2048, 512), (4096, 256), (1024, 96))
    for n, (width, height) in enumerate(sizes):
        for stride, channels in ((4, (3, 1024)[n % 2]), (32, (1024, 3)[n % 2])):
            size = np.minimum(rng.uniform(largest / 5, largest, (number, 2)), [width, height])
            start = rng.uniform(0, 1, (number, 2)) * ([width, height] - size)
            boxes = np.concatenate([start, start + size], axis=1)
            write_maps(tmp_path, 2, channels, height // stride, width // stride)
            for given, settings in (
                (boxes, {"scale": 1 / stride}),
                (boxes / [width, height, width, height], {"normalized": True}),
            ):
                _, warnings, _ = checked(tmp_path, given, **settings)
                assert [text for text in warnings if "smaller than one cell" not in text] == []


@pytest.mark.parametrize(
    "boxes",
    [
        np.zeros((0, 4)),
        np.full((3, 4), np.nan),
        np.concatenate([good_boxes(95), good_boxes(5) + 1e4]),
        np.array([[-300.0, -300, -100, -100]]),
    ],
)
def test_odd_boxes_are_no_mistake_unless_most_are(folder, boxes):
    report, warnings, _ = checked(folder, boxes, bad_boxes="zero")
    assert len(warnings) == (1 if len(boxes) == 1 else 0)
    assert report.boxes == len(boxes)
    assert (report.partly_outside, report.wholly_outside) == (0, {100: 5, 1: 1}.get(len(boxes), 0))


def test_normalized_boxes_as_they_should_be(folder):
    report, warnings, _ = checked(folder, good_boxes() / IN_IMAGE, normalized=True)
    assert warnings == []
    assert report.example.given[0] == pytest.approx(good_boxes()[0, 0] / WIDTH)
    assert report.example.cells[0] == pytest.approx(good_boxes()[0, 0] / STRIDE - 0.5, abs=1e-5)


def test_some_boxes_beyond_their_maps_are_no_mistake(folder):
    boxes = good_boxes()
    boxes[::5] += 2 * IN_IMAGE
    for normalized in (False, True):
        report, warnings, _ = checked(folder, boxes / IN_IMAGE if normalized else boxes, normalized=normalized)
        assert warnings == []
        assert report.wholly_outside == 40


def test_the_worked_box(folder):
    boxes = np.array([[9.0, 9, 5, 5], [-16, 32, 48, 80]])
    report, _, _ = checked(folder, boxes, bad_boxes="zero")
    example = report.example
    assert (example.where, example.image_id, example.map_size) == ("box 1", "1", (23, 40))
    assert example.given == (-16, 32, 48, 80)
    assert example.cells == (-1.5, 1.5, 2.5, 4.5)
    assert example.inside == 0.75
    assert (report.partly_outside, report.wholly_outside, report.zeroed) == (1, 0, 1)
    for op, cells in (("roi_align", (-1, 2, 3, 5)), ("roi_pool", (-1.5, 1.5, 3.5, 5.5))):
        spec = PoolSpec((7, 7), op=op, mode="max")
        assert checked(folder, boxes[1:], spec=spec)[0].example.cells == cells


@pytest.mark.parametrize("bad_boxes", ["error", "skip", "zero", "keep"])
@pytest.mark.parametrize(
    "boxes",
    [
        good_boxes(6),
        np.array([[0.0, 0, 50, 50], [60, 60, 9, 9]]),
        np.array([[0.0, 0, 50, 50], [0, 0, np.inf, 9]]),
        np.array([[0.0, 0, 50, 50], [-9e8, 0, 9e8, 50]]),
        np.zeros((0, 4)),
    ],
)
def test_it_refuses_what_align_refuses(folder, tmp_path, boxes, bad_boxes):
    scale = 50.0  # at which the largest box cannot be sampled
    report, _, refusal = checked(folder, boxes, scale=scale, bad_boxes=bad_boxes)
    spec = PoolSpec((7, 7), aligned=True)
    inputs, how = (str(folder / "feats.npy"), folder / "boxes.npy", spec), Geometry(spatial_scale=scale)
    job = AlignJob(*inputs, geometry=how, bad_boxes=bad_boxes, output=tmp_path / "out.npy")
    if refusal is not None:
        with pytest.raises(type(refusal)) as error:
            align(job, Silent())
        assert (error.value.message, error.value.hint) == (refusal.message, refusal.hint)
    else:
        done = align(job, Silent())
        written = np.load(tmp_path / "out.npy")
        assert (written.shape, str(written.dtype), written.nbytes) == (report.shape, report.dtype, report.bytes)
        assert (done.boxes, done.images) == (report.boxes - report.zeroed, report.images)


def test_the_command(folder, tmp_path):
    (tmp_path / "boxes.json").write_text(
        '[{"image_id": 0, "bbox": [16, 32, 64, 48]}, {"image_id": 1, "bbox": [0, 0, 9000, 9]}]'
    )
    np.save(tmp_path / "feats.npy", np.load(folder / "feats.npy"))
    command = ["check", "feats.npy", "boxes.json", "--spatial-scale", "1/16", "--reduce", "mean", "--size", "3x2"]
    for width in ("80", "160"):
        done = run(tmp_path, *command, COLUMNS=width)
        lines = [line.split(None, 1) for line in done.stdout.splitlines()]
        assert ["features", "feats.npy, 2 maps"] in [[word.rstrip() for word in line] for line in lines]
        assert "boxes.json, COCO results, xywh, in pixels" in done.stdout
        assert "x 1 to 5, y 2 to 5" in done.stdout
        assert "2 x 8 float32, 64 bytes" in done.stdout
        assert "…" not in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= int(width)
    assert "note: the maps of feats.npy have no ids" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.json", "feats.npy"]
    done = run(tmp_path, *command, "--json", "--quiet")
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert (report["shape"], report["partly_outside"]) == ([2, 8], 1)
    assert report["example"]["cells"] == [1, 2, 5, 5]


def test_strict_ends_with_one_where_there_is_a_warning(folder, tmp_path):
    np.save(tmp_path / "f.npy", np.ones((1, 3, 8, 8), np.float32))
    for box, code in (([1, 2, 6, 7], 0), ([100, 200, 600, 700], 1)):
        (tmp_path / "b.json").write_text(json.dumps([box]))
        run(tmp_path, "check", "f.npy", "b.json", "--strict", expect=code)
        run(tmp_path, "check", "f.npy", "b.json")


def test_the_command_refuses_as_align_does(folder, tmp_path):
    np.save(tmp_path / "boxes.npy", np.insert(as_xywh(good_boxes()), 0, 0, axis=1))
    inputs = [folder / "feats.npy", "boxes.npy"]
    refused = run(tmp_path, "align", *inputs, "-o", "out.npy", expect=3).stderr.splitlines()
    shown = run(tmp_path, "check", *inputs, expect=3)
    assert shown.stdout == ""
    warning, *rest = [line for line in shown.stderr.splitlines() if not line.startswith("note: ")]
    assert warning.startswith("warning: ")
    assert [warning, *rest] == [line for line in refused if not line.startswith("note: ")]


@pytest.mark.parametrize("bad_boxes", ["error", "skip", "zero", "keep"])
def test_boxes_too_large_for_their_scale_are_named(folder, tmp_path, bad_boxes):
    """Whichever axis it is; before there is any output."""
    (tmp_path / "boxes.csv").write_text("image_id,x1,y1,x2,y2\n0,0,0,5,5\n1,0,-9e8,5,9e8\n0,5,5,6,6\n1,-9e8,0,9e8,5\n")
    options = [folder / "feats.npy", "boxes.csv", "--spatial-scale", "50", "--bad-boxes", bad_boxes]
    message = (
        "error: boxes.csv, lines 3, 5: too large to sample at spatial scale 50; the first is "
        "[0.0, -900000000.0, 5.0, 900000000.0]\nhint: Check their coordinates, and --spatial-scale.\n"
    )
    for command in (["check", *options], ["align", *options, "-o", "out.npy"]):
        assert run(tmp_path, *command, expect=3).stderr.endswith(message)
        assert [path.name for path in tmp_path.iterdir()] == ["boxes.csv"]
    run(tmp_path, "align", *options, "-o", "out.npy", "--sampling-ratio", "2")
    _, _, refusal = checked(folder, np.array([[0.0, 0, 1, 1], [0, 0, 9e8, 1]]), normalized=True)
    assert refusal.message.endswith(
        "box 1: too large to sample as boxes in 0..1 of the image; the first is [0.0, 0.0, 900000000.0, 1.0]"
    )


def test_extents_are_where_the_trace_says(folder):
    feature_map = np.load(folder / "feats.npy")[0]
    for box in good_boxes(20):
        for aligned in (False, True):
            traced = roicli.trace_bin(feature_map, box, 7, 1 / 16, aligned=aligned)
            spec = PoolSpec((7, 7), aligned=aligned)
            assert checked(folder, box[None], spec=spec)[0].example.cells == pytest.approx(traced.roi, abs=1e-5)
