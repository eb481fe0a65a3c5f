# Tokens of the image towers of CLIP (one class token), SigLIP and SigLIP2 (none).
# Run it, then pool; boxes.json is a COCO file, whose boxes are in pixels of the originals:
#   roicli align tokens.h5 boxes.json -o pooled.h5 --layout tokens --grid 24x24 --prefix 1 \
#     --preprocess squash:336 --stride 14 --aligned
# SigLIP so400m at 384: --grid 27x27 --prefix 0 --preprocess squash:384 --stride 14, and its model and processor below.
# Without do_resize=False CLIP's processor crops the middle: then give --preprocess center-crop:336.
from pathlib import Path

import h5py
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionModel  # or SiglipImageProcessor, SiglipVisionModel

NAME, SIDE, IMAGES = "openai/clip-vit-large-patch14-336", 336, Path("images")

processor = CLIPImageProcessor.from_pretrained(NAME, do_resize=False, do_center_crop=False)
model = CLIPVisionModel.from_pretrained(NAME).eval()
with torch.inference_mode(), h5py.File("tokens.h5", "w") as out:
    for path in sorted(IMAGES.glob("*.jpg")):
        image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.BICUBIC)  # the whole image, squashed
        out[path.stem] = model(**processor(image, return_tensors="pt")).last_hidden_state[0].numpy()
