# Tokens of DINOv2, with registers or without, and of DINOv3 (patch 16, 4 registers).
# Run it, then pool; boxes.json is a COCO file, whose boxes are in pixels of the originals:
#   roicli align tokens.h5 boxes.json -o pooled.h5 --layout tokens --grid 37x37 --prefix 1 \
#     --preprocess squash:518 --stride 14 --aligned
# With registers: --prefix 5. DINOv3 at 512: --grid 32x32 --prefix 5 --preprocess squash:512 --stride 16.
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image
from transformers import AutoModel

NAME, SIDE, IMAGES = "facebook/dinov2-base", 518, Path("images")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

model = AutoModel.from_pretrained(NAME).eval()
with torch.inference_mode(), h5py.File("tokens.h5", "w") as out:
    for path in sorted(IMAGES.glob("*.jpg")):
        image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        out[path.stem] = model(((pixels - MEAN) / STD)[None]).last_hidden_state[0].numpy()  # (1 + 37 * 37, D)
