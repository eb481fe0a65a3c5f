# What the head of an ultralytics detector reads: three maps of strides 8, 16 and 32.
# Run it, then pool from one of them; boxes.json is a COCO file, whose boxes are in pixels of the originals:
#   roicli align feats.h5 boxes.json -o pooled.h5 --preprocess letterbox:640 --levels 0:8,1:16,2:32 --level 1 --aligned
# predict() pads to the nearest multiple of 32 only; here all images become squares, which letterbox:640 describes.
from pathlib import Path

import cv2
import h5py
import torch
from ultralytics import YOLO
from ultralytics.data.augment import LetterBox

WEIGHTS, IMAGES = "yolo11n.pt", Path("images")

model = YOLO(WEIGHTS).model.eval()
found = []
model.model[-1].register_forward_pre_hook(lambda head, inputs: found.extend(inputs[0]))
with torch.inference_mode(), h5py.File("feats.h5", "w") as out:
    for path in sorted(IMAGES.glob("*.jpg")):
        image = LetterBox((640, 640), auto=False)(image=cv2.imread(str(path)))[..., ::-1]  # BGR to RGB
        found.clear()
        model(torch.from_numpy(image.transpose(2, 0, 1).copy())[None] / 255)
        for number, level in enumerate(found):
            out[f"{path.stem}/{number}"] = level[0].numpy()
