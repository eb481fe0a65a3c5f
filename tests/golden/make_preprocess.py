"""Make preprocess.npz: what each framework does to small images, and torchvision's RoIAlign on the result.

Not run by the tests. It needs torch, torchvision, ultralytics and segment-anything. detectron2, dinov2 and
qwen_vl_utils are not installable here: their published functions of a few lines stand below.
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.utils.transforms import ResizeLongestSide
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import roi_align
from torchvision.transforms import functional as T
from ultralytics.data.augment import LetterBox
from ultralytics.utils.ops import scale_boxes

STRIDE = 4
SIZES = [(37, 53), (61, 40), (45, 45)]


def boxes_of(h, w):
    return np.array([[0, 0, w, h], [3.25, 5.5, w - 7.75, h - 2.5], [w / 2, h / 3, w / 2 + 9.5, h / 3 + 12.25]])


def resize(image, h, w):
    return F.interpolate(image[None], size=(h, w), mode="bilinear", align_corners=False)[0]


def pad(image, left, top, right, bottom):
    return F.pad(image, (left, right, top, bottom))


def scaled(boxes, rx, ry, px=0, py=0):
    return boxes * np.array([rx, ry, rx, ry]) + np.array([px, py, px, py])


def detectron2(image, boxes, short=60, longest=80):
    """Resize as ResizeShortestEdge.get_output_shape and ResizeTransform.apply_coords do, pad as ImageList does."""
    h, w = image.shape[1:]
    size = short * 1.0
    scale = size / min(h, w)
    newh, neww = (size, scale * w) if h < w else (scale * h, size)
    if max(newh, neww) > longest:
        scale = longest * 1.0 / max(newh, neww)
        newh, neww = newh * scale, neww * scale
    neww, newh = int(neww + 0.5), int(newh + 0.5)
    image = resize(image, newh, neww)
    return pad(image, 0, 0, -neww % 32, -newh % 32), scaled(boxes, neww * 1.0 / w, newh * 1.0 / h), (newh, neww)


def torchvision_detection(image, boxes):
    transform = GeneralizedRCNNTransform(60, 80, [0.0], [1.0])
    images, targets = transform([image], [{"boxes": torch.from_numpy(boxes).double()}])
    return images.tensors[0], targets[0]["boxes"].numpy(), tuple(images.image_sizes[0])


def sam(image, boxes):
    h, w = image.shape[1:]
    transform = ResizeLongestSide(96)
    newh, neww = transform.get_preprocess_shape(h, w, 96)
    return pad(resize(image, newh, neww), 0, 0, 96 - neww, 96 - newh), transform.apply_boxes(boxes, (h, w)), (96, 96)


def ultralytics(image, boxes):
    """LetterBox; its inverse for boxes, scale_boxes, gives the region."""
    array = image.permute(1, 2, 0).numpy()
    h, w = array.shape[:2]
    params = LetterBox(new_shape=(64, 96)).get_params({"img": array})
    done = LetterBox(new_shape=(64, 96))(image=np.repeat(array, 3, axis=2))
    corners = torch.tensor([[0.0, 0, 96, 64]], dtype=torch.float64)
    ends = torch.tensor([[params["left"], params["top"]], [params["left"] + params["new_unpad"][0], 0]])
    rx = (params["new_unpad"][0]) / w
    ry = (params["new_unpad"][1]) / h
    moved = scaled(boxes, rx, ry, params["left"], params["top"])
    back = scale_boxes((64, 96), torch.from_numpy(moved.copy()), (h, w)).numpy()
    assert np.allclose(back, boxes.clip(0), atol=1e-9), (back, boxes, corners, ends)
    return torch.from_numpy(done[..., 0].copy())[None], moved, (64, 96)


def squash(image, boxes):
    h, w = image.shape[1:]
    return T.resize(image, [56, 70], antialias=True), scaled(boxes, 70 / w, 56 / h), (56, 70)


def clip(image, boxes):
    h, w = image.shape[1:]
    small = T.resize(image, 51, antialias=True)
    newh, neww = small.shape[1:]
    ramp = torch.arange(newh * neww, dtype=torch.float64).reshape(1, newh, neww)
    top, left = divmod(int(T.center_crop(ramp, [40, 40])[0, 0, 0]), neww)
    return T.center_crop(small, [40, 40]), scaled(boxes, neww / w, newh / h, -left, -top), (40, 40)


def mmdet_pad(image, boxes, multiple=14):
    h, w = image.shape[1:]
    ph, pw = math.ceil(h / multiple) * multiple, math.ceil(w / multiple) * multiple
    return pad(image, 0, 0, pw - w, ph - h), boxes, (ph, pw)


def dinov2(image, boxes, multiple=14):
    """Pad as CenterPadding does."""

    def get_pad(size):
        missing = math.ceil(size / multiple) * multiple - size
        return missing // 2, missing - missing // 2

    h, w = image.shape[1:]
    (top, bottom), (left, right) = get_pad(h), get_pad(w)
    done = F.pad(image, (left, right, top, bottom))
    return done, scaled(boxes, 1, 1, left, top), tuple(done.shape[1:])


def qwen(image, boxes, factor=14):
    """Resize as smart_resize does."""
    h, w = image.shape[1:]
    newh, neww = max(factor, round(h / factor) * factor), max(factor, round(w / factor) * factor)
    return resize(image, newh, neww), scaled(boxes, neww / w, newh / h), (newh, neww)


def nothing(image, boxes):
    return image, boxes, tuple(image.shape[1:])


RUNS = {
    "shortest-edge:60,80": detectron2,
    "shortest-edge-floor:60,80": torchvision_detection,
    "longest-edge:96": sam,
    "letterbox:64x96": ultralytics,
    "squash:56x70": squash,
    "center-crop:40,51": clip,
    "pad-multiple:14": mmdet_pad,
    "center-pad:14": dinov2,
    "round-multiple:14": qwen,
    "none": nothing,
}

if __name__ == "__main__":
    torch.manual_seed(0)
    arrays = {}
    for text, run in RUNS.items():
        for h, w in SIZES:
            image = torch.randint(0, 8, (1, h, w)).float() / 8
            boxes = boxes_of(h, w)
            seen, moved, size = run(image, boxes)
            features = F.avg_pool2d(seen[None].float(), STRIDE, ceil_mode=True)
            rois = torch.from_numpy(moved.astype(np.float32))
            pooled = roi_align(features, [rois], 2, 1 / STRIDE, -1, True)
            key = f"{text} {h}x{w}"
            arrays[f"{key} map"] = features[0].numpy()
            arrays[f"{key} boxes"] = moved
            arrays[f"{key} input"] = np.array(size)
            arrays[f"{key} pooled"] = pooled.numpy()
    np.savez_compressed(Path(sys.argv[1]), **arrays)
