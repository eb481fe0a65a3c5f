"""The same operator in other packages, each left out where it is not installed, or broken."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from roicli.bench.onnxmodel import roi_align_model
from roicli.bench.workloads import Workload
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


def working_peers(say: Callable[[str], None]) -> dict[str, Prepare]:
    """Peers that are here and pool a box; `say` is told of those that fail, as builds that do not fit each other do."""
    tiny, found = Workload((1, 4, 4), 1, 1), {}
    for name, prepare in PEERS.items():
        if find_spec(name) is None:
            continue
        try:
            prepare(tiny.features(), tiny.boxes(), tiny.spec, 1)()
        except Exception as error:
            reason = " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])
            say(f"note: {name} is installed, but fails, and is left out: {reason}")
        else:
            found[name] = prepare
    return found
