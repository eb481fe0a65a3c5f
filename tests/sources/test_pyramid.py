"""Feature pyramids in files: each way to lay out the levels, named or found, and what is refused."""

import pickle

import h5py
import numpy as np
import pytest
from sources import test_tensors

from roicli.errors import FeatureError, RoicliError, UsageError
from roicli.sources import Level
from roicli.sources.pyramid import find_levels, open_pyramid, size_fault, stride_of

LEVELS = tuple(Level(f"p{number}", 2.0**number) for number in (2, 3, 4))
IDS = ("139", "285")


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    sizes = {"139": (64, 96), "285": (96, 80)}
    return {
        (image, level.name): rng.standard_normal((2, *(int(side / level.stride) for side in sizes[image]))).astype("f4")
        for image in IDS
        for level in LEVELS
    }


def group_an_image(folder, maps):
    with h5py.File(folder / "maps.h5", "w") as file:
        for (image, level), values in maps.items():
            file[f"{image}/{level}"] = values
    return "maps.h5"


def group_a_level(folder, maps):
    with h5py.File(folder / "maps.h5", "w") as file:
        for (image, level), values in maps.items():
            file[f"{level}/{image}"] = values
    return "maps.h5"


def file_a_level(folder, maps):
    for level in LEVELS:
        np.savez(folder / f"feats_{level.name}.npz", **{image: maps[image, level.name] for image in IDS})
    return "feats_*.npz"


def npz_an_image(folder, maps):
    for image in IDS:
        np.savez(folder / f"{image}.npz", **{level.name: maps[image, level.name] for level in LEVELS})
    return "*.npz"


def paths_in_npz(folder, maps):
    np.savez(folder / "maps.npz", **{f"{image}/{level}": values for (image, level), values in maps.items()})
    return "maps.npz"


def folder_a_level(folder, maps):
    for (image, level), values in maps.items():
        (folder / "feats" / level).mkdir(parents=True, exist_ok=True)
        np.save(folder / "feats" / level / f"{image}.npy", values[None])
    return "feats"


def folder_an_image(folder, maps):
    for (image, level), values in maps.items():
        (folder / "feats" / image).mkdir(parents=True, exist_ok=True)
        np.save(folder / "feats" / image / f"{level}.npy", values)
    return "feats"


WAYS = [group_an_image, group_a_level, file_a_level, npz_an_image, paths_in_npz, folder_a_level, folder_an_image]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("named", [True, False], ids=["named", "found"])
def test_each_way_to_lay_out_levels(way, named, tmp_path, maps):
    pattern = str(tmp_path / way(tmp_path, maps))
    source = open_pyramid(pattern, LEVELS) if named else find_levels(pattern)
    assert (source.levels, [*source.ids], source.labelled, len(source)) == (LEVELS, [*IDS], True, 6)
    source = pickle.loads(pickle.dumps(source))
    for image, name in enumerate(IDS):
        for number, level in enumerate(LEVELS):
            index = image * len(LEVELS) + number
            np.testing.assert_array_equal(source.read(index), maps[name, level.name])
            assert source.info(index).shape == maps[name, level.name].shape
    assert [values.shape for values in source] == [maps[name, level.name].shape for name in IDS for level in LEVELS]
    stamped = {path for path in source.stamps if "/c/" not in path}  # but for the chunks of Zarr that were read
    assert stamped <= set(source.paths)
    source.close()


def test_stacks_and_a_placeholder(tmp_path):
    for level in LEVELS:
        side = int(64 / level.stride)
        np.save(tmp_path / f"{level.name}_maps.npy", np.full((3, 1, side, side), level.stride, np.float32))
    source = open_pyramid(f"{tmp_path}/{{level}}_maps.npy", LEVELS)
    assert ([*source.ids], source.labelled, source.read(7)[0, 0, 0]) == (["0", "1", "2"], False, 8)


def test_a_group_that_holds_all(tmp_path, maps):
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        for (image, level), values in maps.items():
            file[f"features/{image}/{level}"] = values
    source = open_pyramid(str(tmp_path / "maps.h5"), LEVELS, dataset="features")
    assert [*source.ids] == [*IDS]
    np.testing.assert_array_equal(source.read(4), maps["285", "p3"])


def test_levels_in_another_order_of_images(tmp_path, maps):
    for level in LEVELS:
        names = IDS if level.name == "p2" else IDS[::-1]
        stack = {name: maps[name, level.name] for name in names}
        with h5py.File(tmp_path / f"{level.name}.h5", "w") as file:
            for name in names:
                file[name] = stack[name]
            if level.name == "p3":  # ids beside a stack keep their order
                for name in names:
                    del file[name]
                file["maps"] = np.stack([np.zeros((2, 8, 8), "f4"), np.ones((2, 8, 8), "f4")])
                file["image_ids"] = [int(name) for name in names]
    source = open_pyramid(f"{tmp_path}/{{level}}.h5", LEVELS)
    assert [source.read(image * 3 + 1)[0, 0, 0] for image in (0, 1)] == [1, 0]


def test_one_image(tmp_path, maps):
    np.savez(tmp_path / "139.npz", **{level.name: maps["139", level.name] for level in LEVELS})
    assert find_levels(str(tmp_path / "139.npz")).ids == ("139",)


def test_only_p2_to_p5_are_taken_unasked(tmp_path):
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        for number in range(2, 7):
            file[f"7/p{number}"] = np.zeros((1, 256 >> number, 256 >> number), np.float32)
    assert [level.name for level in find_levels(str(tmp_path / "maps.h5")).levels] == ["p2", "p3", "p4", "p5"]


@pytest.mark.parametrize("sides", [{"p2": 64, "p3": 64}, {"p2": 64, "p4": 16}, {"a": 64, "b": 32}, {"p2": 64}])
def test_what_leaves_doubt_is_not_found(tmp_path, sides):
    np.savez(tmp_path / "maps.npz", **{name: np.zeros((1, side, side)) for name, side in sides.items()})
    assert find_levels(str(tmp_path / "maps.npz")) is None


def test_sizes_must_fit_the_strides(tmp_path, maps):
    group_an_image(tmp_path, maps)
    swapped = (Level("p2", 4.0), Level("p4", 8.0), Level("p3", 16.0))
    source = open_pyramid(str(tmp_path / "maps.h5"), swapped)
    assert "level p4 of stride 8 has 4 x 6 cells, expected 8 x 12" in size_fault(source, 0)
    assert size_fault(open_pyramid(str(tmp_path / "maps.h5"), LEVELS), 1) == ""


@pytest.mark.parametrize("way", WAYS)
def test_a_level_that_is_missing(way, tmp_path, maps):
    pattern = str(tmp_path / way(tmp_path, maps))
    with pytest.raises(RoicliError, match="p9"):
        open_pyramid(pattern, (*LEVELS, Level("p9", 512.0)))


def test_a_level_that_lacks_an_image(tmp_path, maps):
    group_a_level(tmp_path, maps)
    with h5py.File(tmp_path / "maps.h5", "a") as file:
        del file["p3/285"]
        file["p3/286"] = maps["285", "p3"]
    with pytest.raises(FeatureError, match=r"level p3 .* has other images than level p2: '285' is missing"):
        open_pyramid(str(tmp_path / "maps.h5"), LEVELS)


@pytest.mark.parametrize("levels", [(), (Level("p2", 4.0), Level("p2", 8.0)), (Level("p2", 0.0),)])
def test_levels_that_are_none(levels, tmp_path, maps):
    group_an_image(tmp_path, maps)
    with pytest.raises(UsageError, match="level"):
        open_pyramid(str(tmp_path / "maps.h5"), levels)


def test_names_say_strides():
    names = ["p2", "P3", "feats_res5", "stride_4", "backbone.c4", "0", "step2", "p23"]
    assert [stride_of(name) for name in names] == [4, 8, 32, 16, 16, None, None, None]


def safetensors_of_paths(folder, maps):
    arrays = {f"{image}/{level}": values for (image, level), values in maps.items()}
    test_tensors.safetensors(folder / "maps.safetensors", arrays)
    return "maps.safetensors"


def safetensors_a_level(folder, maps):
    for level in LEVELS:
        arrays = {image: maps[image, level.name] for image in IDS}
        test_tensors.safetensors(folder / f"feats_{level.name}.safetensors", arrays)
    return "feats_*.safetensors"


def torch_dict_an_image(folder, maps):
    saved = test_tensors.Saved()
    images = {
        image: test_tensors.mapping({level.name: saved.tensor(maps[image, level.name]) for level in LEVELS})
        for image in IDS
    }
    saved.write(folder / "maps.pt", test_tensors.mapping(images))
    return "maps.pt"


def torch_file_an_image(folder, maps):
    for image in IDS:
        saved = test_tensors.Saved()
        tensors = {level.name: saved.tensor(maps[image, level.name]) for level in LEVELS}
        saved.write(folder / f"{image}.pt", test_tensors.mapping(tensors))
    return "*.pt"


def zarr_groups(folder, maps):
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(str(folder / "maps.zarr"), mode="w")
    for (image, level), values in maps.items():
        root.create_array(f"{image}/{level}", data=values)
    return "maps.zarr"


@pytest.mark.parametrize(
    "way", [safetensors_of_paths, safetensors_a_level, torch_dict_an_image, torch_file_an_image, zarr_groups]
)
@pytest.mark.parametrize("named", [True, False], ids=["named", "found"])
def test_levels_in_files_of_other_formats(way, named, tmp_path, maps):
    test_each_way_to_lay_out_levels(way, named, tmp_path, maps)
