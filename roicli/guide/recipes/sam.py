# Maps of the image encoder of SAM: (256, 64, 64) an image, of stride 16.
# Run it, then pool; boxes.json is a COCO file, whose boxes are in pixels of the originals:
#   roicli align feats.h5 boxes.json -o pooled.h5 --preprocess longest-edge:1024 --stride 16 --aligned
# SAM2 squashes images: take Sam2Model, its processor, and get_image_embeddings(pixels)[-1][0]; then
# --preprocess squash:1024 --stride 16. The first two of its three maps have strides 4 and 8.
from pathlib import Path

import h5py
import torch
from PIL import Image
from transformers import SamImageProcessor, SamModel

NAME, IMAGES = "facebook/sam-vit-base", Path("images")

processor = SamImageProcessor.from_pretrained(NAME)  # resizes the longer side to 1024, pads right and below
model = SamModel.from_pretrained(NAME).eval()
with torch.inference_mode(), h5py.File("feats.h5", "w") as out:
    for path in sorted(IMAGES.glob("*.jpg")):
        pixels = processor(Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"]
        out[path.stem] = model.get_image_embeddings(pixels)[0].numpy()
