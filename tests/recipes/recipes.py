"""Run the recipes whose libraries are installed, with random weights, and compare with torchvision on their maps.

Apart from the suite, since it needs torch: ``python -m pytest -n0 tests/recipes/recipes.py``.
"""

import json
import shlex
import subprocess
import sys

import h5py
import numpy as np
import pytest

from roicli.cli.recipe import recipes

torch = pytest.importorskip("torch")
ops = pytest.importorskip("torchvision.ops")
SIZES = {139: (640, 427), 285: (333, 500)}  # width, height
SMALL = "hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2"
# What makes each small and random, the library that it needs, and what it does to an image: rx, ry, px, py.
CHANGES = {
    "torchvision": ("torchvision", [("weights=WEIGHTS", "weights=None, weights_backbone=None")]),
    "timm": ("timm", [('"resnet50", True', '"resnet18", False')]),
    "ultralytics": ("ultralytics", [("yolo11n.pt", "yolo11n.yaml")]),
    "dinov2": (
        "transformers",
        [
            ("import AutoModel", "import Dinov2Config, Dinov2Model"),
            ("AutoModel.from_pretrained(NAME)", f"Dinov2Model(Dinov2Config({SMALL}, image_size=518, patch_size=14))"),
        ],
    ),
    "clip": (
        "transformers",
        [
            ("import CLIPImageProcessor,", "import CLIPVisionConfig, CLIPImageProcessor,"),
            ("CLIPImageProcessor.from_pretrained(NAME, ", "CLIPImageProcessor("),
            (
                "CLIPVisionModel.from_pretrained(NAME)",
                f"CLIPVisionModel(CLIPVisionConfig({SMALL}, image_size=336, patch_size=14))",
            ),
        ],
    ),
    "sam": (
        "transformers",
        [
            ("import SamImageProcessor,", "import SamConfig, SamImageProcessor,"),
            ("SamImageProcessor.from_pretrained(NAME)", "SamImageProcessor()"),
            (
                "SamModel.from_pretrained(NAME)",
                "SamModel(SamConfig(vision_config={'hidden_size': 32, 'num_hidden_layers': 1, 'num_attention_heads': 2,"
                "'mlp_dim': 64, 'global_attn_indexes': [0], 'output_channels': 256}))",
            ),
        ],
    ),
    "qwen-vl": (
        "transformers",
        [
            ("import AutoImageProcessor, Qwen2_5_VLForConditionalGeneration", "import Qwen2VLImageProcessor"),
            ("AutoImageProcessor.from_pretrained(NAME)", "Qwen2VLImageProcessor(patch_size=14, merge_size=2)"),
            (
                "Qwen2_5_VLForConditionalGeneration.from_pretrained(NAME).model.visual",
                "tower_of(depth=1, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=16)",
            ),
        ],
    ),
}
TOWER = """
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
def tower_of(**how):
    return Qwen2_5_VisionTransformerPretrainedModel(Qwen2_5_VLVisionConfig(**how))
"""


def network_input(name, width, height):
    """What each does to an image of a size, from its own code: rx, ry, px, py."""
    if name == "torchvision":
        scale = min(800 / min(width, height), 1333 / max(width, height))
        return int(width * scale) / width, int(height * scale) / height, 0, 0
    if name == "ultralytics":
        scale = min(640 / width, 640 / height)
        new = round(width * scale), round(height * scale)
        return scale, scale, round((640 - new[0]) / 2 - 0.1), round((640 - new[1]) / 2 - 0.1)
    if name == "sam":
        scale = 1024 / max(width, height)
        return int(width * scale + 0.5) / width, int(height * scale + 0.5) / height, 0, 0
    if name == "qwen-vl":
        return round(width / 28) * 28 / width, round(height / 28) * 28 / height, 0, 0
    side = {"timm": 448, "dinov2": 518, "clip": 336}[name]
    return side / width, side / height, 0, 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for image, (width, height) in SIZES.items():
        pixels = rng.integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{image:012d}.jpg")
        images.append({"id": image, "file_name": f"{image:012d}.jpg", "width": width, "height": height})
        for x, y, w, h in ((10, 20, 200, 130), (100.5, 3.25, 64, 400), (0, 0, width, height)):
            annotations.append({"id": len(annotations), "image_id": image, "bbox": [x, y, w, h], "category_id": 1})
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command_in(text):
    """The words of the command that a script names in its head."""
    head = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    joined = "\n".join(head).replace("\\\n", " ")
    return shlex.split(next(line for line in joined.splitlines() if line.startswith("roicli align")))


def live_map(name, image):
    """The map that was dumped of an image, as torch has it: (1, C, H, W), or levels by their stride."""
    if name == "qwen-vl":
        with np.load("tokens.npz") as arrays:
            grids, tokens = arrays["grid_thw"], arrays["tokens"]
        sizes = [(int(h) // 2, int(w) // 2) for _, h, w in grids]
        n = [*SIZES].index(image)
        first = sum(h * w for h, w in sizes[:n])
        h, w = sizes[n]
        return torch.from_numpy(tokens[first : first + h * w].reshape(h, w, -1)).permute(2, 0, 1)[None]
    with h5py.File("tokens.h5" if name in ("dinov2", "clip") else "feats.h5") as file:
        found = file[f"{image:012d}"]
        if isinstance(found, h5py.Group):
            return {key: torch.from_numpy(found[key][()])[None] for key in found}
        values = torch.from_numpy(found[()])
    if name in ("dinov2", "clip"):
        side = int((len(values) - 1) ** 0.5)
        values = values[1:].reshape(side, side, -1).permute(2, 0, 1)
    return values[None]


@pytest.mark.parametrize("name", CHANGES)
def test_a_recipe(name, folder):
    library, changes = CHANGES[name]
    pytest.importorskip(library)
    text = recipes()[name]
    command = command_in(text)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    if name == "timm":  # dumps what it streams, to compare
        text = text.replace("job.add(image_id, ", "job.add(image_id, kept(image_id, ").replace("[0][0])", "[0][0]))")
        text = f"import h5py\nfile = h5py.File('feats.h5', 'w')\n{KEPT}{text}"
    (folder / "dump.py").write_text(f"import torch\ntorch.manual_seed(0)\n{TOWER * (name == 'qwen-vl')}{text}")
    subprocess.run([sys.executable, "dump.py"], check=True)
    roicli = [sys.executable, "-m", "roicli"]
    drop = command.index("-o")
    checked = subprocess.run(
        [*roicli, "check", *command[2:drop], *command[drop + 2 :], "--strict"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
    if name != "timm":
        subprocess.run([*roicli, *command[1:]], check=True)
    with h5py.File("pooled.h5") as file:
        pooled = torch.from_numpy(file["features"][()])
    boxes = [(a["image_id"], a["bbox"]) for a in json.loads((folder / "boxes.json").read_text())["annotations"]]
    assert len(pooled) == len(boxes)
    for row, (image, (x, y, w, h)) in enumerate(boxes):
        rx, ry, px, py = network_input(name, *SIZES[image])
        box = torch.tensor([[x * rx + px, y * ry + py, (x + w) * rx + px, (y + h) * ry + py]])
        found = live_map(name, image)
        if name == "torchvision":
            rois = ops.MultiScaleRoIAlign([*"0123"], 7, 2)
            expected = rois(found, [box], [(found["0"].shape[2] * 4, found["0"].shape[3] * 4)])
        elif name == "ultralytics":
            expected = ops.roi_align(found["1"], [box], 7, 1 / 16, aligned=True)
        else:
            stride = {"dinov2": 14, "clip": 14, "qwen-vl": 28}.get(name, 16)
            expected = ops.roi_align(found, [box], 7, 1 / stride, aligned=True)
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(pooled[row : row + 1], expected, rtol=0, atol=3e-5 * scale, msg=f"{name}, row {row}")


KEPT = """
def kept(image_id, values):
    file[f"{int(image_id):012d}"] = values.numpy()
    return values


"""
