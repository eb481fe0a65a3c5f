# Levels of a detectron2 model with an FPN, without its detections.
# Run it, then pool as its ROIPooler does; boxes.json is a COCO file, whose boxes are in pixels of the originals:
#   roicli align feats.h5 boxes.json -o pooled.h5 --preprocess shortest-edge:800,1333 \
#     --levels p2:4,p3:8,p4:16,p5:32 --level-rule detectron2 --aligned
# For a C4 model take res4 instead of p2 to p5, and give --stride 16 for --levels and --level-rule.
# Written from the project's sources, and not run by roicli's tests; the others are.
from pathlib import Path

import cv2
import h5py
import torch
from detectron2 import model_zoo
from detectron2.data import transforms as T

CONFIG, IMAGES = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml", Path("images")

model = model_zoo.get(CONFIG, trained=True).eval()
resize = T.ResizeShortestEdge(800, 1333)
with torch.inference_mode(), h5py.File("feats.h5", "w") as out:
    for path in sorted(IMAGES.glob("*.jpg")):
        image = cv2.imread(str(path))  # BGR, as the model expects
        image = resize.get_transform(image).apply_image(image).transpose(2, 0, 1)
        batch = model.preprocess_image([{"image": torch.as_tensor(image.copy())}])  # normalized, padded to 32
        for name, level in model.backbone(batch.tensor).items():
            if name != "p6":  # the RPN's alone
                out[f"{path.stem}/{name}"] = level[0].cpu().numpy()
