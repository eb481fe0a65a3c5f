# Levels of torchvision's detection backbones, such as that of fasterrcnn_resnet50_fpn.
# Run it, then pool as MultiScaleRoIAlign does; boxes.json is a COCO file, whose boxes are in pixels of the originals:
#   roicli align feats.h5 boxes.json -o pooled.h5 --preprocess shortest-edge-floor:800,1333 \
#     --levels 0:4,1:8,2:16,3:32 --sampling-ratio 2
from pathlib import Path

import h5py
import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.transforms.functional import to_tensor

WEIGHTS, IMAGES = "DEFAULT", Path("images")

model = fasterrcnn_resnet50_fpn(weights=WEIGHTS).eval()
with torch.inference_mode(), h5py.File("feats.h5", "w") as out:
    for path in sorted(IMAGES.glob("*.jpg")):
        batch, _ = model.transform([to_tensor(Image.open(path).convert("RGB"))])  # resized, normalized, padded to 32
        for name, level in model.backbone(batch.tensors).items():
            if name != "pool":  # the RPN's alone
                out[f"{path.stem}/{name}"] = level[0].numpy()
