# Levels of an mmdetection model with an FPN (mmdet 3), without its detections.
# Run it, then pool as its SingleRoIExtractor does; boxes.json is a COCO file, in pixels of the originals:
#   roicli align feats.h5 boxes.json -o pooled.h5 --preprocess shortest-edge:800,1333 \
#     --levels 0:4,1:8,2:16,3:32 --level-rule mmdet --aligned
# Written from the project's sources, and not run by roicli's tests; the others are.
from pathlib import Path

import h5py
import mmcv
import torch
from mmdet.apis import init_detector

CONFIG, CHECKPOINT = "faster-rcnn_r50_fpn_1x_coco.py", "faster_rcnn_r50_fpn_1x_coco.pth"
IMAGES = Path("images")

model = init_detector(CONFIG, CHECKPOINT, device="cpu")
with torch.inference_mode(), h5py.File("feats.h5", "w") as out:
    for path in sorted(IMAGES.glob("*.jpg")):
        image = mmcv.imrescale(mmcv.imread(str(path)), (1333, 800))
        data = {"inputs": [torch.as_tensor(image.transpose(2, 0, 1).copy())], "data_samples": None}
        inputs = model.data_preprocessor(data)["inputs"]  # normalized, padded to 32
        for number, level in enumerate(model.extract_feat(inputs)[:4]):  # the fifth is the RPN's
            out[f"{path.stem}/{number}"] = level[0].cpu().numpy()
