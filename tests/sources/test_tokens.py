"""Sequences of ViT tokens as maps: shapes and names of the models that people use, padding, packing, orders."""

import json

import h5py
import numpy as np
import pytest

import roicli
from roicli.errors import FeatureError
from roicli.pooling.channels_last import channels_last
from roicli.sources import open_source
from roicli.sources.tokens import TokenLayout, TokenSource

BOXES = [[10.5, 20, 90, 70], [30, 5, 44, 100.25]]


def tokens(*shape, dtype=np.float32):
    return (np.random.default_rng(shape).integers(-64, 64, shape) / 16).astype(dtype)


def by_hand(sequence, prefix, height, width):
    return sequence[prefix : prefix + height * width].reshape(height, width, -1).transpose(2, 0, 1)


def unmerge(sequence, height, width):
    """Qwen2-VL's own order undone, patch by patch."""
    out = np.empty((height, width, sequence.shape[1]), sequence.dtype)
    patches = iter(sequence)
    for y in range(0, height, 2):
        for x in range(0, width, 2):
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                out[y + dy, x + dx] = next(patches)
    return out.transpose(2, 0, 1)


# Tokens of one image, prefix and grid, the side of a patch; few channels where these are many.
MODELS = {
    "dinov2": (1370, 1, (37, 37), 14),
    "dinov2-registers": (1374, 5, (37, 37), 14),
    "dinov3": (201, 5, (14, 14), 16),
    "clip-b32": (50, 1, (7, 7), 32),
    "clip-l14-336": (577, 1, (24, 24), 14),
    "siglip-so400m": (729, 0, (27, 27), 14),
    "sam": (4096, 0, (64, 64), 16),
    "deit-distilled": (198, 2, (14, 14), 16),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("write", ["one", "batch of one", "stack"])
def test_models(tmp_path, model, write):
    length, prefix, grid, patch = MODELS[model]
    sequences = tokens(2, length, 12, dtype=np.float16)
    stored = {"one": sequences[0], "batch of one": sequences[:1], "stack": sequences}[write]
    np.save(tmp_path / "feats.npy", stored)
    indexed = [[0, *box] for box in BOXES] + [[1, *box] for box in BOXES] * (write == "stack")
    (tmp_path / "boxes.json").write_text(json.dumps(indexed))
    settings = {"spatial_scale": 1 / patch, "aligned": True}
    roicli.align(
        tmp_path / "feats.npy", tmp_path / "boxes.json", tmp_path / "out.npy", layout="tokens", size=(3, 2), **settings
    )
    maps = np.stack([by_hand(sequence, prefix, *grid) for sequence in sequences])
    expected = roicli.roi_align(maps, np.array(indexed), (3, 2), **settings)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-6)


def test_numbers_of_torchvision(tmp_path):
    """What torchvision 0.29 gives for the tokens of this file, reshaped by hand."""
    sequence = (np.arange(1374 * 2) * 7919 % 1009 / 64).reshape(1374, 2).astype(np.float32)
    np.save(tmp_path / "feats.npy", sequence)
    (tmp_path / "boxes.json").write_text("[[14.5, 30, 210, 99.25], [300, 100, 517, 480]]")
    roicli.align(
        *(tmp_path / "feats.npy", tmp_path / "boxes.json", tmp_path / "out.npy"),
        **{"layout": "tokens", "size": (1, 2), "spatial_scale": 1 / 14, "aligned": True},
    )
    np.testing.assert_allclose(np.load(tmp_path / "out.npy")[..., 0, :], TORCHVISION, rtol=1e-6)


TORCHVISION = [[[7.8607683, 7.8225865], [7.7540197, 8.037282]], [[7.8177772, 7.8740683], [7.9184232, 7.8762088]]]


def test_no_copy_is_made(tmp_path):
    np.save(tmp_path / "feats.npy", tokens(1374, 2000))  # mapped, since it is large
    source = open_source(tmp_path / "feats.npy", layout="tokens")
    feature_map = source.read(0)
    assert feature_map.shape == (2000, 37, 37)
    laid_out = channels_last(feature_map)
    assert np.shares_memory(laid_out, feature_map)
    assert laid_out.flags.c_contiguous
    assert not feature_map.flags.owndata


def test_grids_by_patch_and_sizes(tmp_path):
    sizes = {1: (28, 70), 2: (56, 43)}  # height, width; the last patch of the second is cut off
    np.savez(tmp_path / "feats.npz", **{"1": tokens(11, 8), "2": tokens(13, 8)})
    images = [{"id": number, "height": height, "width": width} for number, (height, width) in sizes.items()]
    boxes = [{"id": number, "image_id": number, "bbox": [5, 6, 20, 21]} for number in sizes]
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": []}))
    arguments = tmp_path / "feats.npz", tmp_path / "boxes.json", tmp_path / "out.npy"
    settings = {"spatial_scale": 1 / 14, "size": 2}
    roicli.align(*arguments, layout="tokens", patch=14, prefix=1, **settings)
    expected = [
        roicli.roi_align(by_hand(tokens(length, 8), 1, *grid), [[5, 6, 25, 27]], 2, spatial_scale=1 / 14)[0]
        for length, grid in ((11, (2, 5)), (13, (4, 3)))
    ]
    np.testing.assert_allclose(np.load(arguments[2]), expected, rtol=0, atol=1e-6)
    with pytest.raises(FeatureError, match="has 11 tokens, a grid of 1 x 3 takes 3"):
        roicli.align(*arguments, layout="tokens", patch=20, **settings, overwrite=True)


@pytest.fixture(params=["npz", "h5"])
def write(request, tmp_path):
    """Write arrays into one file; returns its name."""

    def written(**arrays):
        path = tmp_path / f"feats.{request.param}"
        if request.param == "npz":
            np.savez(path, **arrays)
        else:
            with h5py.File(path, "w") as file:
                for name, array in arrays.items():
                    file[name] = array.astype("S") if array.dtype.kind == "U" else array
        return path

    return written


IDS = np.array(["a", "b", "c"])
GRIDS = np.array([[4, 6], [8, 2], [2, 10]])


def test_padded_with_shapes(write):
    """SigLIP NaFlex: (N, 256, D), pixel_attention_mask, spatial_shapes."""
    stack = tokens(3, 32, 8)
    mask = np.arange(32) < GRIDS.prod(axis=1)[:, None]
    path = write(features=stack, image_ids=IDS, spatial_shapes=GRIDS, pixel_attention_mask=mask.astype(np.int64))
    source = open_source(path, layout="tokens")
    assert list(source.ids) == ["a", "b", "c"]
    for index, grid in enumerate(GRIDS):
        np.testing.assert_array_equal(source.read(index), by_hand(stack[index], 0, *grid))
        assert source.info(index).shape == (8, *grid)


@pytest.mark.parametrize("name", ["lengths", "attention_mask"])
def test_padded_with_lengths(write, name):
    stack, sizes = tokens(3, 32, 8), np.array([17, 26, 10])
    # The mask says that they are padded on the left.
    beside = np.arange(32) >= 32 - sizes[:, None] if name == "attention_mask" else sizes
    source = open_source(write(features=stack, image_ids=IDS, **{name: beside}), layout=TokenLayout(prefix=1))
    for index, side in enumerate((4, 5, 3)):
        start = 32 - sizes[index] if name == "attention_mask" else 0
        np.testing.assert_array_equal(source.read(index), by_hand(stack[index][start:], 1, side, side))


@pytest.mark.parametrize("merged", [False, True])
def test_packed(write, merged):
    """Qwen2-VL: all images in one sequence, in blocks of 2 x 2 until these are merged."""
    grids = np.insert(GRIDS, 0, 1, axis=1)
    sizes = GRIDS.prod(axis=1) // (4 if merged else 1)
    packed = tokens(sizes.sum(), 8)
    source = open_source(write(image_embeds=packed, image_grid_thw=grids, image_ids=IDS), layout="tokens")
    assert list(source.ids) == ["a", "b", "c"]
    for index, part in enumerate(np.split(packed, sizes.cumsum()[:-1])):
        height, width = GRIDS[index]
        expected = by_hand(part, 0, height // 2, width // 2) if merged else unmerge(part, height, width)
        np.testing.assert_array_equal(source.read(index), expected)
    assert isinstance(source, TokenSource)
    assert np.array_equal(source["b"], source.read(1))


def test_packed_without_ids(write):
    packed = tokens(GRIDS.prod(axis=1).sum(), 8)
    source = open_source(write(tokens=packed, spatial_shapes=GRIDS), layout="tokens")
    assert not source.labelled
    assert len(source) == 3
    np.testing.assert_array_equal(source.read(0), by_hand(packed, 0, 4, 6))


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"spatial_shapes": GRIDS[:2]}, "has 2 grids"),
        ({"spatial_shapes": GRIDS * 9}, "the grid 36 x 54 of image a takes 1,944 tokens, its sequence has 32"),
        ({"spatial_shapes": GRIDS[0]}, "where grids are"),
        ({"grid_thw": np.insert(GRIDS, 0, 2, axis=1)}, "where one frame"),
        ({"lengths": np.array([17, 33, 10])}, "says 33 tokens of image b, its sequence has 32"),
        ({"attention_mask": np.tile([1, 0], (3, 16))}, "with gaps between"),
    ],
    ids=str,
)
def test_arrays_beside_that_do_not_fit(write, beside, message):
    with pytest.raises(FeatureError, match=message):
        open_source(write(features=tokens(3, 32, 8), image_ids=IDS, **beside), layout="tokens")


@pytest.mark.parametrize("sequences", [1, 2])
def test_levels_in_one_sequence(write, sequences):
    """Deformable DETR's spatial_shapes are those of levels, not of images."""
    levels = np.array([[20, 27], [10, 14], [5, 7]])
    path = write(features=tokens(sequences, levels.prod(axis=1).sum(), 8), spatial_shapes=levels)
    with pytest.raises(FeatureError, match="levels of one image, flattened into one sequence"):
        open_source(path, layout="tokens")


def test_packed_grids_that_do_not_fit(write):
    with pytest.raises(FeatureError, match=r"has 61 tokens, the grids of .* take 60, or 15 after a merge of 2 x 2"):
        open_source(write(tokens=tokens(61, 8), spatial_shapes=GRIDS), layout="tokens")


def test_a_group_an_image(tmp_path):
    with h5py.File(tmp_path / "feats.h5", "w") as file:
        for number in range(30):
            file[f"{number}/tokens"] = tokens(17, 8) + number
            file[f"{number}/class"] = tokens(8)
    source = open_source(tmp_path / "feats.h5", layout="tokens")
    assert list(source.ids) == [str(number) for number in range(30)]
    np.testing.assert_array_equal(source["21"], by_hand(tokens(17, 8) + 21, 1, 4, 4))
    with h5py.File(tmp_path / "feats.h5", "a") as file:
        for number in range(30):
            file[f"{number}/pooled"] = tokens(1, 8)
    with pytest.raises(FeatureError, match="more than one thing to pool"):
        open_source(tmp_path / "feats.h5", layout="tokens")
    assert len(open_source(tmp_path / "feats.h5", layout="tokens", dataset="tokens")) == 30


@pytest.mark.parametrize(
    ("settings", "length", "message", "hint"),
    [
        ({}, 1380, "1,380 tokens, which after 0 to 5 prefix tokens are not a square", "grid="),
        ({"prefix": 1}, 1374, "after 1 prefix token are not a square", "`prefix=5` with `grid=37x37`"),
        ({"grid": (37, 37), "prefix": 1}, 1374, "1 prefix token and a grid of 37 x 37 takes 1,370", "`prefix=5`"),
        ({"grid": (37, 37)}, 1360, "a grid of 37 x 37 takes 1,369", "grid="),
        ({"grid": (30, 30)}, 1374, "a grid of 30 x 30 takes 900", "`grid=37x37`"),
        ({"order": "merge-2x2"}, 1374, "which blocks of 2 x 2 do not fill", "token_order=raster"),
    ],
)
def test_grids_that_do_not_fit(settings, length, message, hint):
    with pytest.raises(FeatureError, match=message) as caught:
        TokenLayout(**settings).resolve(length, "feats.npy")
    assert hint in caught.value.hint


def test_as_many_sequences_as_tokens(tmp_path):
    np.save(tmp_path / "feats.npy", tokens(64, 64, 256))
    with pytest.raises(FeatureError, match="which is 64 sequences of 64 tokens, or one map of 64 x 64"):
        open_source(tmp_path / "feats.npy", layout="tokens")
    assert len(open_source(tmp_path / "feats.npy", layout=TokenLayout(grid=(8, 8)))) == 64


def test_python_door(tmp_path):
    np.save(tmp_path / "feats.npy", tokens(13, 8))
    source = roicli.open_features(tmp_path / "feats.npy", layout="tokens", grid=(4, 3), prefix=1)
    np.testing.assert_array_equal(source.read(0), by_hand(tokens(13, 8), 1, 4, 3))
    with pytest.raises(roicli.errors.UsageError, match="`grid` is for sequences of tokens"):
        roicli.open_features(tmp_path / "feats.npy", grid=(4, 3))


@pytest.mark.parametrize(
    ("preprocess", "grid"), [("squash:42x70", (3, 5)), ("shortest-edge:28,140", (2, 5)), ("none", (4, 10))]
)
def test_grids_of_preprocessed_images(tmp_path, preprocess, grid):
    length = 1 + grid[0] * grid[1]
    np.save(tmp_path / "7.npy", tokens(length, 8))
    images = [{"id": 7, "height": 56, "width": 140}]
    boxes = [{"id": 1, "image_id": 7, "bbox": [5, 6, 20, 21]}]
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": []}))
    report = roicli.check(
        *(tmp_path / "7.npy", tmp_path / "boxes.json"),
        **{"layout": "tokens", "patch": 14, "preprocess": preprocess, "stride": 14},
    )
    assert report.example.map_size == grid


def test_a_grid_that_needs_sizes(tmp_path):
    np.save(tmp_path / "feats.npy", tokens(16, 8))
    (tmp_path / "boxes.json").write_text("[[1, 2, 5, 6]]")
    files = tmp_path / "feats.npy", tmp_path / "boxes.json"
    with pytest.raises(roicli.RoicliError, match="the sizes of 1 of 1 image are not known"):
        roicli.check(*files, layout="tokens", patch=14)
    assert roicli.check(*files, layout="tokens", patch=14, stride=14, image_size="28x112").example.map_size == (2, 8)


def test_tokens_without_a_layout(tmp_path):
    np.save(tmp_path / "a.npy", tokens(17, 8))
    with pytest.raises(FeatureError) as caught:
        open_source(tmp_path / "a.npy")
    assert caught.value.hint == "Give `layout=tokens` if these are tokens (L, D)."


def test_maps_taken_for_tokens(tmp_path):
    np.save(tmp_path / "7.npy", tokens(37, 37, 8))
    with pytest.raises(FeatureError, match="a stack of maps") as caught:
        open_source(tmp_path, layout="tokens").info(0)
    assert caught.value.hint == "Give `layout=hwc` if these are maps (H, W, C)."


class TestLevelsInOneSequence:
    """Deformable DETR and its kind: the tokens of all levels, one level after the other."""

    GRIDS = ((25, 34), (13, 17), (7, 9))
    STRIDES = (8, 16, 32)
    LEVELS = "25x34:8,13x17:16,7x9:32"

    @pytest.fixture
    def maps(self):
        return [smooth(2, *grid, 6) for grid in self.GRIDS]

    @pytest.fixture
    def sequences(self, maps):
        return np.concatenate([level.reshape(2, -1, 6) for level in maps], axis=1)

    def pool(self, folder, **settings):
        boxes = [[image, *box] for box in ((3, 5, 60, 80), (20, 30, 250, 190), (0, 0, 130, 100)) for image in (0, 1)]
        (folder / "boxes.json").write_text(json.dumps(boxes))
        settings = {"layout": "tokens", "size": (3, 2), "aligned": True, "canonical_scale": 64, **settings}
        report = roicli.align(folder / settings.pop("name"), folder / "boxes.json", folder / "out.npy", **settings)
        return np.load(folder / "out.npy"), boxes, report

    @pytest.mark.parametrize("way", ["names", "shapes beside", "prefix"])
    def test_numbers(self, tmp_path, maps, sequences, way):
        settings = {"levels": self.LEVELS, "name": "feats.npz"}
        beside = {}
        if way == "shapes beside":
            settings["levels"] = dict(zip("012", self.STRIDES, strict=True))
            beside["spatial_shapes"] = np.array(self.GRIDS)
        if way == "prefix":
            settings["prefix"] = 2
            sequences = np.concatenate([np.ones((2, 2, 6), "f4"), sequences], axis=1)
        np.savez(tmp_path / "feats.npz", memory=sequences, **beside)
        pooled, boxes, report = self.pool(tmp_path, **settings)
        expected = roicli.multiscale_roi_align(
            [level.transpose(0, 3, 1, 2) for level in maps],
            [np.array([box[1:] for box in boxes[image::2]]) for image in (0, 1)],
            **{"output_size": (3, 2), "sampling_ratio": -1, "scales": [1 / stride for stride in self.STRIDES]},
            **{"aligned": True, "canonical_scale": 64},
        )
        np.testing.assert_array_equal(pooled, expected[[0, 3, 1, 4, 2, 5]])
        assert not report.warnings

    def test_one_level(self, tmp_path, maps, sequences):
        np.save(tmp_path / "feats.npy", sequences)
        pooled, boxes, _ = self.pool(tmp_path, name="feats.npy", levels=self.LEVELS, level="13x17")
        expected = roicli.roi_align(maps[1].transpose(0, 3, 1, 2), np.array(boxes), (3, 2), 1 / 16, aligned=True)
        np.testing.assert_array_equal(pooled, expected)

    def test_maps(self, tmp_path, maps, sequences):
        np.save(tmp_path / "feats.npy", sequences)
        source = roicli.open_features(tmp_path / "feats.npy", layout="tokens", levels=self.LEVELS)
        assert [level.name for level in source.levels] == ["25x34", "13x17", "7x9"]
        for index, level in enumerate(source):
            image, number = divmod(index, 3)
            np.testing.assert_array_equal(level, maps[number][image].transpose(2, 0, 1))

    def test_exchanged_sides_are_named(self, tmp_path, sequences):
        np.save(tmp_path / "feats.npy", sequences)
        _, _, report = self.pool(tmp_path, name="feats.npy", levels="34x25:8,17x13:16,9x7:32")
        assert "as a grid of 25 x 34; give the sides of grids as height, width" in report.warnings[0]

    def test_other_lengths(self, tmp_path, sequences):
        np.save(tmp_path / "feats.npy", sequences[:, 1:])
        with pytest.raises(FeatureError, match=r"has 1,133 tokens, the grids of its levels take 1,134"):
            self.pool(tmp_path, name="feats.npy", levels=self.LEVELS)

    def test_without_levels(self, tmp_path, sequences):
        np.savez(tmp_path / "feats.npz", memory=sequences, spatial_shapes=np.array(self.GRIDS))
        with pytest.raises(FeatureError, match="flattened into one sequence") as error:
            self.pool(tmp_path, name="feats.npz")
        assert "`levels=0:8,1:16,2:32,3:64`" in error.value.hint


def smooth(images, height, width, channels):
    y, x, c = np.mgrid[:height, :width, :channels].astype(np.float32)
    return np.stack([np.sin(y / 3 + image) + np.cos(x / 4 + c) for image in range(images)])
