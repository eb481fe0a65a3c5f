# Clips of SlowFast (PyTorchVideo, trained for AVA), as its detection head reads them: (C, T, H, W), of stride 16.
# Run it, then pool the mean of the frames; ava.csv is that of AVA, with boxes in 0..1 of the image:
#   roicli align feats.h5 ava.csv -o pooled.h5 --time mean --preprocess squash:256 --image-size 256x256 --stride 16
# A clip is named by its video and second, as ava.csv names them: VIDEO,0902.pt holds the frames around that second.
# Written from the project's sources, and not run by roicli's tests; the others are.
from pathlib import Path

import h5py
import torch

CLIPS = Path("clips")  # of (3, 64, 256, 256) in 0..1

model = torch.hub.load("facebookresearch/pytorchvideo", "slowfast_r50_detection", pretrained=True).eval()
found, box = [], torch.tensor([[0.0, 0, 0, 256, 256]])
model.detection_head.register_forward_pre_hook(lambda head, inputs: found.append(inputs[0]))
with torch.inference_mode(), h5py.File("feats.h5", "w") as out:
    for path in sorted(CLIPS.glob("*.pt")):
        fast = ((torch.load(path) - 0.45) / 0.225)[:, ::2]  # 32 frames
        model([fast[None, :, ::4], fast[None]], box)  # the slow path sees every fourth
        out[path.stem] = found.pop()[0].numpy()
