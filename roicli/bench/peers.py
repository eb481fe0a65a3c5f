"""The same operator in other packages, each absent where it is not installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from roicli.bench.onnxmodel import roi_align_model
from roicli.spec import PoolSpec

Blocks = NDArray[np.float32]
Prepare = Callable[[NDArray[np.float32], NDArray[np.float32], PoolSpec, int], Callable[[], Blocks]]


def torchvision_call(
    features: NDArray[np.float32], boxes: NDArray[np.float32], spec: PoolSpec, threads: int
) -> Callable[[], Blocks]:
    """Prepare ``torchvision.ops.roi_align``."""
    import torch
    from torchvision.ops import roi_align

    torch.set_num_threads(threads)
    batch, rois = torch.from_numpy(features[None]), [torch.from_numpy(boxes)]

    def call() -> Blocks:
        pooled = roi_align(batch, rois, spec.output_size, spec.spatial_scale, spec.sampling_ratio, spec.aligned)
        blocks: Blocks = pooled.numpy()
        return blocks

    return call


def onnxruntime_call(
    features: NDArray[np.float32], boxes: NDArray[np.float32], spec: PoolSpec, threads: int
) -> Callable[[], Blocks]:
    """Prepare a session of ONNX Runtime with a single RoiAlign node."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Else its threads go on spinning for work on the cores of whoever comes next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(roi_align_model(spec), options, providers=["CPUExecutionProvider"])
    feeds = {"X": features[None], "rois": boxes, "batch_indices": np.zeros(len(boxes), np.int64)}

    def call() -> Blocks:
        blocks: Blocks = session.run(None, feeds)[0]
        return blocks

    return call


PEERS: dict[str, Prepare] = {"torchvision": torchvision_call, "onnxruntime": onnxruntime_call}


def installed_peers() -> dict[str, Prepare]:
    """Peers that can be imported here."""
    return {name: prepare for name, prepare in PEERS.items() if importable(name)}


def importable(package: str) -> bool:
    """Whether a package is here and loads."""
    try:
        import_module(package)
    except (ImportError, OSError):  # a shared library that a broken installation lacks
        return False
    return True
