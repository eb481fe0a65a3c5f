"""Boxes pooled from the levels of pyramids: numbers, what is written of levels, and what is refused."""

import csv
import json

import h5py
import numpy as np
import pytest

import roicli
from roicli.errors import FeatureError, UsageError
from roicli.jobs.info import info
from roicli.jobs.merge import MergeJob, merge
from roicli.jobs.pyramid import Pyramid
from roicli.jobs.readings import Reading
from roicli.jobs.trace import TraceJob, trace
from roicli.regions import BoxFormat
from roicli.spec import PoolSpec

STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}
LEVELS = "p2:4,p3:8,p4:16,p5:32"
SETTINGS = {"size": (3, 2), "sampling_ratio": 2, "workers": 1}


class Case:
    """Two images of four levels in an HDF5 file, and boxes of all sizes."""

    def __init__(self, folder, images=2, name="{image}/{level}"):
        rng = np.random.default_rng(1)
        self.maps, self.boxes = [], []
        with h5py.File(folder / "maps.h5", "w") as file:
            for image in range(images):
                sizes = [(-(-384 // stride), -(-(512 - 64 * image) // stride)) for stride in STRIDES.values()]
                levels = [rng.standard_normal((3, *size)).astype(np.float32) for size in sizes]
                for level, values in zip(STRIDES, levels, strict=True):
                    file[name.format(image=image + 7, level=level)] = values
                self.maps.append(levels)
                corner = rng.uniform(0, 150, (12, 2))
                sides = np.exp(np.linspace(3, 6.4, 12))[:, None] * rng.uniform(0.8, 1.25, (12, 2))
                self.boxes.append(np.concatenate([corner, corner + sides], axis=1))
        self.features, self.json, self.folder = folder / "maps.h5", folder / "boxes.json", folder
        items = [
            {"image_id": image + 7, "bbox": box} for image, boxes in enumerate(self.boxes) for box in boxes.tolist()
        ]
        self.json.write_text(json.dumps(items[::2] + items[1::2]))
        self.order = [*range(0, len(items), 2), *range(1, len(items), 2)]

    def expected(self, **settings):
        """By the function on arrays, an image at a time."""
        scales = [1 / stride for stride in STRIDES.values()]
        pooled = [
            roicli.multiscale_roi_align(
                [level[None] for level in levels], boxes, SETTINGS["size"], 2, scales=scales, **settings
            )
            for levels, boxes in zip(self.maps, self.boxes, strict=True)
        ]
        return np.concatenate(pooled)[self.order]

    def align(self, name="out.npy", **options):
        """Do the job; return what it writes, and its report."""
        options = SETTINGS | {"box_format": "xyxy"} | options
        report = roicli.align(self.features, self.json, self.folder / name, **options)
        return (np.load(self.folder / name) if name.endswith(".npy") else None), report


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


@pytest.mark.parametrize("rule", ["torchvision", "detectron2", "mmdet", "matterport"])
@pytest.mark.parametrize("aligned", [False, True])
def test_numbers(case, rule, aligned):
    got, _ = case.align(levels=LEVELS, level_rule=rule, aligned=aligned)
    np.testing.assert_allclose(got, case.expected(level_rule=rule, aligned=aligned), rtol=0, atol=1e-6)


def test_levels_are_found_and_said(case):
    got, report = case.align()
    np.testing.assert_array_equal(got, case.align("named.npy", levels=STRIDES)[0])
    assert any(f"has the levels {LEVELS}, known by their names and sizes" in note for note in report.notes)
    assert any(note.startswith("boxes on levels: p2 ") for note in report.notes)


def test_the_level_of_each_row_is_written(case):
    case.align("out.h5", index=case.folder / "rows.csv", level_rule="detectron2")
    with h5py.File(case.folder / "out.h5") as file:
        written = file["levels"].asstr()[()].tolist()
        assert {name: file.attrs[name] for name in ("levels", "level_rule", "canonical_level")} == {
            "levels": LEVELS,
            "level_rule": "detectron2",
            "canonical_level": 4,
        }
        assert "spatial_scale" not in file.attrs
    with (case.folder / "rows.csv").open() as file:
        assert [line["level"] for line in csv.DictReader(file)] == written
    assert set(written) == set(STRIDES)
    assert roicli.read_regions(case.folder / "rows.csv").image_ids == ("7", "8")
    case.align("out.npz", level_rule="detectron2")
    with np.load(case.folder / "out.npz") as arrays:
        assert arrays["levels"].tolist() == written


def test_one_level_for_all(case):
    got, _ = case.align(level="p4")
    for row, number in enumerate(case.order[:5]):
        image, box = divmod(number, 12)
        one = roicli.roi_align(case.maps[image][2], case.boxes[image][[box]], SETTINGS["size"], 1 / 16, 2)
        np.testing.assert_allclose(got[row], one[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", ["concat", "sum", "mean", "max"])
@pytest.mark.parametrize("reduce", ["none", "mean"])
def test_all_levels_combined(case, how, reduce):
    got, report = case.align(levels_combine=how, reduce=reduce)
    each = [case.align(f"{level}.npy", level=level, reduce=reduce)[0] for level in STRIDES]
    join = {"concat": lambda blocks: np.concatenate(blocks, 1), "sum": sum, "max": lambda blocks: np.max(blocks, 0)}
    expected = sum(each) / 4 if how == "mean" else join[how](each)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    assert report.shape[1] == (12 if how == "concat" else 3)


@pytest.mark.parametrize("options", [{}, {"levels_combine": "concat"}])
def test_workers_and_shards_give_the_same_bytes(case, options):
    whole, _ = case.align(**options)
    again, _ = case.align("again.npy", **options | {"workers": 2, "batch_size": 3})
    np.testing.assert_array_equal(again, whole)
    parts = []
    for part in (1, 2):
        case.align(f"part{part}.h5", shard=f"{part}/2", **options)
        with h5py.File(case.folder / f"part{part}.h5") as file:
            parts.append((file["output_rows"][()], file["features"][()]))
    joined = np.empty_like(whole)
    for rows, features in parts:
        joined[rows] = features
    np.testing.assert_array_equal(joined, whole)


def test_merged_parts_keep_the_levels(case):
    case.align("whole.h5")
    parts = [case.folder / f"part{part}.h5" for part in (1, 2)]
    for part, path in enumerate(parts, 1):
        case.align(path.name, shard=f"{part}/2")
    merge(MergeJob(case.folder / "merged.h5", [*map(str, parts)]), lambda rows: None)
    assert (case.folder / "merged.h5").read_bytes() == (case.folder / "whole.h5").read_bytes()


def test_sizes_of_images_must_fit_the_finest_level(case):
    sizes = case.folder / "sizes.csv"
    sizes.write_text("image_id,height,width\n7,384,512\n8,384,448\n")
    plain = case.align(image_size=sizes)[0]
    sizes.write_text("image_id,height,width\n7,768,1024\n8,768,896\n")
    with pytest.raises(FeatureError, match=r"level p2: .* do not have the size of their images") as caught:
        case.align("other.npy", image_size=sizes)
    assert "strides of `levels`" in caught.value.hint
    assert case.align("same.npy", image_size=sizes, size_check=False)[0].tolist() == plain.tolist()


def test_info_names_the_levels(case):
    maps = info(str(case.features)).maps
    assert (maps.levels, maps.count, maps.ids) == (LEVELS, 8, ("7", "8"))


def test_backbone_levels_of_unlike_channels_can_be_joined(tmp_path):
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        for number, channels in ((2, 1), (3, 2)):
            file[f"7/c{number}"] = np.full((channels, 64 >> number, 64 >> number), number, np.float32)
    (tmp_path / "boxes.json").write_text('[{"image_id": 7, "bbox": [4, 4, 40, 40]}]')
    files = tmp_path / "maps.h5", tmp_path / "boxes.json", tmp_path / "out.npy"
    roicli.align(*files, size=1, levels_combine="concat", workers=1)
    assert np.load(files[2]).ravel().tolist() == [2, 3, 3]
    with pytest.raises(FeatureError, match="got 2"):
        roicli.align(*files, size=1, overwrite=True, workers=1)


def test_normalized_boxes_lie_on_the_input_that_the_finest_level_covers(case):
    pixels = case.align("pixels.npy")[0]
    items = json.loads(case.json.read_text())
    for item in items:
        width = {7: 512, 8: 448}[item["image_id"]]
        item["bbox"] = (
            (np.array(item["bbox"]) / [width, 384] * 2).tolist()
            if False
            else [side / size for side, size in zip(item["bbox"], [width, 384] * 2, strict=True)]
        )
    case.json.write_text(json.dumps(items))
    np.testing.assert_allclose(case.align("unit.npy", normalized=True)[0], pixels, rtol=0, atol=1e-5)


def test_check_shows_levels(case):
    report = roicli.check(case.features, case.json, box_format="xyxy", levels=LEVELS)
    assert sum(report.levels.values()) == report.boxes == 24
    assert [*report.levels] == [*STRIDES]
    assert report.example.level in STRIDES
    assert report.example.cells[0] == pytest.approx(report.example.given[0] / STRIDES[report.example.level])


def test_trace_names_the_level(case):
    levels = roicli.check(case.features, case.json, box_format="xyxy").example.level
    spec = PoolSpec((3, 2), 2)
    job = TraceJob(
        str(case.features), case.json, (spec,), reading=Reading(box_format=BoxFormat.XYXY), bin=(1, 1), channel=2
    )
    traced = trace(job, lambda note: None)
    assert traced.level == levels
    assert traced.traces[0].result == pytest.approx(case.align()[0][0, 2, 1, 1], abs=1e-6)
    with pytest.raises(UsageError, match="several maps"):
        trace(
            TraceJob(str(case.features), case.json, (spec,), pyramid=Pyramid(levels_combine="sum")), lambda note: None
        )


def test_an_inverted_axis_gives_zeros_as_in_torchvision(case):
    case.json.write_text('[{"image_id": 7, "bbox": [50, 10, 20, 90]}, {"image_id": 7, "bbox": [5, 5, 90, 80]}]')
    got, _ = case.align(bad_boxes="keep")
    assert not got[0].any()
    assert got[1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "p4", "levels_combine": "sum"}, "contradict"),
        ({"level": "p7"}, "level 'p7' is not one of p2, p3, p4, p5"),
        ({"levels": "p2:4,p2:8"}, "twice"),
        ({"levels": "a:4,b"}, "levels must be NAME:STRIDE"),
        ({"levels": "p2:4,p3:x"}, "levels must be NAME:STRIDE"),
        ({"spatial_scale": 1 / 4}, "for features of one level"),
        ({"level_rule": "fpn"}, "level_rule must be one of"),
        ({"levels": "p2:4,p4:16"}, "each twice the one before"),
    ],
)
def test_settings_that_cannot_be(case, options, message):
    with pytest.raises(UsageError, match=message):
        case.align(**options)


def test_strides_that_the_sizes_belie(case):
    with pytest.raises(FeatureError, match="level p3 of stride 16 has 48 x 64 cells, expected 24 x 32"):
        case.align(levels="p2:4,p3:16,p4:32")


def test_features_without_levels(tmp_path):
    np.save(tmp_path / "map.npy", np.zeros((1, 8, 8), np.float32))
    (tmp_path / "boxes.json").write_text("[[0, 0, 4, 4]]")
    with pytest.raises(UsageError, match="one map an image, not several levels"):
        roicli.align(tmp_path / "map.npy", tmp_path / "boxes.json", tmp_path / "out.npy", level_rule="mmdet")


def test_torchvisions_names_are_hinted_at(tmp_path):
    renamed = dict(zip(STRIDES, "0123", strict=True))
    case = Case(tmp_path)
    with h5py.File(case.features, "a") as file:
        for image in ("7", "8"):
            for old, new in renamed.items():
                file.move(f"{image}/{old}", f"{image}/{new}")
    with pytest.raises(FeatureError) as caught:
        case.align()
    assert "`levels=0:4,1:8,2:16,3:32`" in caught.value.hint
    got, _ = case.align(levels="0:4,1:8,2:16,3:32")
    np.testing.assert_allclose(got, case.expected(), rtol=0, atol=1e-6)


def test_names_say_strides_where_they_are_not_given():
    assert [level.stride for level in Pyramid(levels="p2, p3,res4").named()] == [4, 8, 16]


def test_a_canonical_scale_is_positive():
    with pytest.raises(UsageError, match="canonical_scale must be a positive number, got 0"):
        Pyramid(canonical_scale=0)
