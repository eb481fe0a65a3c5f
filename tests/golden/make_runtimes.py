"""Make runtimes.npz with the libraries that are installed: the same map and boxes as each of them pools these.

Keys are CALL@RATIO. What is there of libraries that are not installed stays: run it in an environment of each. Made by
torchvision 0.29.1, onnxruntime 1.32.0, openvino 2026.4.1, ncnn 1.0.20261020, paddlepaddle 3.3.1, mindspore 2.10.0 and
tensorflow-cpu 2.21.0.
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("runtimes.npz")
SIZE, SCALE = (2, 3), 1 / 8
RATIOS = (0, 2)
rng = np.random.default_rng(19)
features = (rng.integers(-127, 128, (4, 12, 17)) / 64).astype(np.float32)
low = rng.integers(4, 60, (9, 2))
boxes = np.hstack([low, low + rng.integers(12, 60, (9, 2))]) + rng.integers(-3, 4, (9, 4)) / 8
boxes[0, 2:] = boxes[0, :2] + [3, 5]  # below a cell
boxes[1, :2] = [-13.5, -6]  # over each edge
boxes[2, 2:] = [150.25, 110]
boxes[3] = [101, 33, 139.5, 61]
boxes = boxes.astype(np.float32)
made = dict(np.load(FILE)) if FILE.exists() else {}
made |= {"features": features, "boxes": boxes}


def keep(call, ratio, pooled):
    """Keep what a call gave."""
    made[f"{call}@{ratio}"] = np.asarray(pooled, np.float32).reshape(len(boxes), len(features), *SIZE)


def by_torchvision():
    """RoIAlign and RoIPool."""
    import torch
    from torchvision.ops import roi_align, roi_pool

    given = torch.from_numpy(features)[None], [torch.from_numpy(boxes)], SIZE, SCALE
    for ratio in RATIOS:
        for aligned in (False, True):
            keep(f"torchvision aligned={aligned}", ratio, roi_align(*given, ratio, aligned))
    keep("torchvision roi_pool", 0, roi_pool(*given))


def by_onnxruntime():
    """Opset 10 and 16, both coordinate modes, mean and maximum."""
    import onnxruntime
    from onnx import TensorProto, helper

    def call(opset, ratio, mode, **attributes):
        node = helper.make_node(
            "RoiAlign",
            ["X", "R", "I"],
            ["Y"],
            output_height=SIZE[0],
            output_width=SIZE[1],
            sampling_ratio=ratio,
            spatial_scale=SCALE,
            mode=mode,
            **attributes,
        )
        inputs = [
            helper.make_tensor_value_info("X", TensorProto.FLOAT, [1, *features.shape]),
            helper.make_tensor_value_info("R", TensorProto.FLOAT, boxes.shape),
            helper.make_tensor_value_info("I", TensorProto.INT64, [len(boxes)]),
        ]
        graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, {"X": features[None], "R": boxes, "I": np.zeros(len(boxes), np.int64)})[0]

    for ratio in RATIOS:
        for mode in ("avg", "max"):
            keep(f"onnxruntime opset=10 {mode}", ratio, call(10, ratio, mode))
            for where in ("half_pixel", "output_half_pixel"):
                pooled = call(16, ratio, mode, coordinate_transformation_mode=where)
                keep(f"onnxruntime opset=16 {where} {mode}", ratio, pooled)


def by_openvino():
    """ROIAlign-3 and -9, all aligned modes, mean and maximum."""
    import openvino
    from openvino import opset3, opset9

    def call(opset, ratio, mode, **attributes):
        given = [features[None], boxes, np.zeros(len(boxes), np.int32)]
        inputs = [opset.parameter(one.shape, one.dtype.type) for one in given]
        node = opset.roi_align(*inputs, *SIZE, ratio, SCALE, mode, **attributes)
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(openvino.Model([node], inputs), "CPU", hint)
        return next(iter(compiled(given).values()))

    for ratio in RATIOS:
        for mode in ("avg", "max"):
            keep(f"openvino ROIAlign-3 {mode}", ratio, call(opset3, ratio, mode))
            for where in ("asymmetric", "half_pixel", "half_pixel_for_nn"):
                keep(f"openvino ROIAlign-9 {where} {mode}", ratio, call(opset9, ratio, mode, aligned_mode=where))


def by_ncnn():
    """Version 1, one box at a time; version 0 reads beyond the map."""
    import tempfile

    import ncnn

    for ratio in RATIOS:
        for aligned in (0, 1):
            pooled = []
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "net.param")
                path.write_text(
                    "7767517\n3 3\nInput map 0 1 map\nInput roi 0 1 roi\nROIAlign pool 2 1 map roi out "
                    f"0={SIZE[1]} 1={SIZE[0]} 2={SCALE} 3={ratio} 4={aligned} 5=1\n"
                )
                net = ncnn.Net()
                net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
                net.load_param(str(path))
            for box in boxes:
                run = net.create_extractor()
                run.input("map", ncnn.Mat(features))
                run.input("roi", ncnn.Mat(box.copy()))
                pooled.append(np.array(run.extract("out")[1]))
            keep(f"ncnn version=1 aligned={aligned}", ratio, np.stack(pooled))


def by_paddle():
    """vision.ops.roi_align and roi_pool."""
    import paddle
    from paddle.vision.ops import roi_align, roi_pool

    given = [paddle.to_tensor(one) for one in (features[None], boxes, np.array([len(boxes)], np.int32))]
    for ratio in RATIOS:
        for aligned in (False, True):
            pooled = roi_align(*given, SIZE, SCALE, ratio, aligned).numpy()
            keep(f"paddle aligned={aligned}", ratio, pooled)
    keep("paddle roi_pool", 0, roi_pool(*given, SIZE, SCALE).numpy())


def by_mindspore():
    """Both end modes."""
    import mindspore

    rois = mindspore.Tensor(np.insert(boxes, 0, 0, axis=1))
    for ratio in RATIOS:
        for end in (0, 1):
            call = mindspore.ops.ROIAlign(*SIZE, SCALE, ratio, end)
            keep(f"mindspore roi_end_mode={end}", ratio, call(mindspore.Tensor(features[None]), rois).asnumpy())


def by_tensorflow():
    """crop_and_resize, whose boxes are y1, x1, y2, x2 over length - 1: of the map, or as Matterport norms pixels."""
    import tensorflow

    lengths = np.array(features.shape[:0:-1] * 2, np.float32)
    normed = {f"shift={shift}": (boxes * SCALE - shift) / (lengths - 1) for shift in (0.0, 0.5)}
    normed["Matterport"] = (boxes - np.array([0, 0, 1, 1], np.float32)) / (lengths / SCALE - 1)
    for words, numbers in normed.items():
        given = numbers[:, [1, 0, 3, 2]].astype(np.float32)
        pooled = tensorflow.image.crop_and_resize(
            features.transpose(1, 2, 0)[None], given, np.zeros(len(boxes), np.int32), SIZE
        )
        keep(f"tensorflow crop_and_resize {words}", 0, pooled.numpy().transpose(0, 3, 1, 2))


if __name__ == "__main__":
    for call in (by_torchvision, by_onnxruntime, by_openvino, by_ncnn, by_paddle, by_mindspore, by_tensorflow):
        try:
            call()
        except ImportError as error:
            print(f"{call.__name__}: {error}")  # noqa: T201
    np.savez_compressed(FILE, **made)
