# Merged tokens of the image tower of Qwen2.5-VL: one for 28 x 28 pixels, packed for all images, and their grids.
# Run it, then pool; boxes.json is a COCO file, whose boxes are in pixels of the originals:
#   roicli align tokens.npz boxes.json -o pooled.h5 --layout tokens --dataset tokens --prefix 0 \
#     --preprocess round-multiple:28 --stride 28 --aligned
# Images come in the order of boxes.json. Qwen3-VL: patches of 16, so round-multiple:32 and --stride 32.
# The tower also shrinks images of more than max_pixels, and enlarges tiny ones: keep yours between.
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, Qwen2_5_VLForConditionalGeneration

NAME, IMAGES = "Qwen/Qwen2.5-VL-3B-Instruct", Path("images")

processor = AutoImageProcessor.from_pretrained(NAME)
tower = Qwen2_5_VLForConditionalGeneration.from_pretrained(NAME).model.visual.eval()
tokens, grids = [], []
with torch.inference_mode():
    for entry in json.loads(Path("boxes.json").read_text())["images"]:
        given = processor(images=Image.open(IMAGES / entry["file_name"]).convert("RGB"), return_tensors="pt")
        made = tower(given["pixel_values"], grid_thw=given["image_grid_thw"])
        tokens.append(getattr(made, "pooler_output", made).float().numpy())
        grids.append(given["image_grid_thw"][0].numpy())
np.savez("tokens.npz", tokens=np.concatenate(tokens), grid_thw=np.stack(grids))
