# A map of any timm backbone, pooled while it is extracted: it never touches the disk.
# boxes.json is a COCO file, whose boxes are in pixels of the originals. The same from files would be:
#   roicli align feats.h5 boxes.json -o pooled.h5 --preprocess squash:448 --stride 16 --aligned
from pathlib import Path

import numpy as np
import roicli
import timm
import torch
from PIL import Image

NAME, PRETRAINED, IMAGES = "resnet50", True, Path("images")

model = timm.create_model(NAME, pretrained=PRETRAINED, features_only=True, out_indices=[3]).eval()
[stride] = model.feature_info.reduction()
config = timm.data.resolve_model_data_config(model)
mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
how = {"preprocess": "squash:448", "stride": stride, "aligned": True, "resume": True}
with torch.inference_mode(), roicli.open_output("pooled.h5", "boxes.json", **how) as job:
    for image_id in job.missing():  # those not done yet; named as COCO names its files
        image = Image.open(IMAGES / f"{int(image_id):012d}.jpg").convert("RGB").resize((448, 448), Image.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        job.add(image_id, model(((pixels - mean) / std)[None])[0][0])
