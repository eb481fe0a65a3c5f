"""`roicli.roi_align` on arrays, as anybody calls it, in turn with the same operator of other packages."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from roicli import roi_align

from .workloads import BINS


def ours(kernel, features, boxes, workload, threads):
    """Prepare our function with one of its kernels; it takes fewer threads where more do not pay."""
    settings = {"aligned": True, "kernel": kernel, "threads": threads}
    return lambda: roi_align(features, boxes, BINS, 1 / workload.stride, workload.sampling_ratio, **settings)


def torchvision(features, boxes, workload, threads):
    """Prepare `torchvision.ops.roi_align`."""
    import torch
    from torchvision.ops import roi_align

    torch.set_num_threads(threads)
    batch, rois = torch.from_numpy(features[None]), [torch.from_numpy(boxes)]
    return lambda: roi_align(batch, rois, BINS, 1 / workload.stride, workload.sampling_ratio, aligned=True).numpy()


def onnxruntime(features, boxes, workload, threads):
    """Prepare a session of ONNX Runtime.

    The models have a single RoiAlign node of opset 16: 7 x 7 bins, half_pixel, spatial scale 1, and the inputs X, rois
    and batch_indices. They take boxes in cells, which is exact for the strides of the workloads.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Otherwise its threads go on spinning for work on the cores of whoever comes next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    sampling = "adaptive" if workload.sampling_ratio < 0 else workload.sampling_ratio
    model = Path(__file__).with_name(f"roi_align_{sampling}.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rois = boxes / np.float32(workload.stride)
    feeds = {"X": features[None], "rois": rois, "batch_indices": np.zeros(len(boxes), np.int64)}
    return lambda: session.run(None, feeds)[0]


def contestants():
    """Return everyone who can be timed here by name, ours first, each as a function that prepares a call."""
    found = {"numpy": partial(ours, "numpy")}
    if find_spec("numba"):
        found["numba"] = partial(ours, "numba")
    return found | {peer.__name__: peer for peer in (torchvision, onnxruntime) if find_spec(peer.__name__)}
