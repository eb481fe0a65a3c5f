"""How far implementations of RoIAlign are from exact rational arithmetic: `python tests/bench/scoreboard.py`.

Each case is a family of boxes that turn on the last bit of a coordinate. For each implementation that is installed, and
those that are written down here from the order of operations in their source, it prints the largest error in units in
the last place (float32) of the largest value; and for each case the box that shows roicli's.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil

import numpy as np

HEIGHT, WIDTH, SIZE = 12, 17, (2, 3)
Boxes = np.ndarray
REAL = np.float32

# Coordinate of sample i of n in bin p, of bins of some size from a start: the order of operations in each source.
ORDERS: dict[str, Callable] = {
    "mmcv, MindSpore, ncnn 1": lambda start, size, p, i, n: start + p * size + (i + REAL(0.5)) * size / n,
    "PaddlePaddle": lambda start, size, p, i, n: start + size * (p + (i + REAL(0.5)) / n),
    "TensorRT": lambda start, size, p, i, n: start + p * size + (i + REAL(0.5)) * (size / n),
}


def axis(low, high, scale, bins, length, ratio, aligned, number, order):
    """Weights of the cells of an axis for each bin, (bins, length), in the arithmetic of `number`."""
    offset = number(1) / number(2) if aligned else number(0)
    start = number(low) * number(scale) - offset
    extent = number(high) * number(scale) - offset - start
    if not aligned:
        extent = max(extent, number(1))
    size = extent / number(bins)
    count = ratio if ratio > 0 else max(ceil(size), 0)
    weights = [[number(0)] * length for _ in range(bins)]
    for p in range(bins):
        for i in range(count):
            at = order(start, size, number(p), number(i), number(count))
            if at < -1 or at > length:
                continue
            at = max(at, number(0))
            cell = int(at)
            if cell >= length - 1:
                weights[p][length - 1] += number(1)
            else:
                weights[p][cell] += number(1) - (at - number(cell))
                weights[p][cell + 1] += at - number(cell)
    return weights, max(count, 1)


def pooled(image, boxes, scale, ratio, aligned, number, order):
    """All bins of all boxes, as exact as `number` is."""
    out = np.empty((len(boxes), *SIZE), np.float64)
    cells = [[number(float(one)) for one in row] for row in image]
    for k, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        wy, ny = axis(y1, y2, float(REAL(scale)), SIZE[0], HEIGHT, ratio, aligned, number, order)
        wx, nx = axis(x1, x2, float(REAL(scale)), SIZE[1], WIDTH, ratio, aligned, number, order)
        for p in range(SIZE[0]):
            for q in range(SIZE[1]):
                total = number(0)
                for y in range(HEIGHT):
                    for x in range(WIDTH):
                        if wy[p][y] and wx[q][x]:
                            total += wy[p][y] * wx[q][x] * cells[y][x]
                out[k, p, q] = float(total / number(ny * nx))
    return out


def exact(image, boxes, scale, ratio, aligned):
    """Rational arithmetic on the numbers that float32 holds."""
    half = Fraction(1, 2)

    def order(start, size, p, i, n):
        return start + p * size + (i + half) * size / n

    return pooled(image, boxes, scale, ratio, aligned, Fraction, order)


def cases(rng) -> dict[str, tuple[Boxes, float, int, bool]]:
    """Boxes (float32), spatial scale, sampling ratio, aligned."""
    low = rng.uniform(0, 120, (24, 2))
    usual = np.hstack([low, low + rng.uniform(8, 120, (24, 2))])
    whole = np.rint(low / 16) * 16
    multiples = np.hstack([whole, whole + np.array([3, 2]) * 16 * rng.integers(1, 4, (24, 1))])
    fourteen = np.rint(low / 14) * 14
    other = np.hstack([fourteen, fourteen + np.array([3, 2]) * 14 * rng.integers(1, 4, (24, 1))])
    edge = usual.copy()
    edge[:12, 2:] = [(WIDTH + 0.5) * 16, (HEIGHT + 0.5) * 16]
    edge[12:, :2] = -rng.uniform(8, 48, (12, 2))
    tiny = np.hstack([low, low + rng.uniform(0.01, 4, (24, 2))])
    far = (usual - np.array([1e5, 0, 0, 0]))[:6]
    thin = np.hstack([low, low + np.array([1e-3, 100])])
    return {
        "usual": (usual, 1 / 16, 2, True),
        "1/14": (usual, 1 / 14, 2, True),
        "whole 1/16": (multiples, 1 / 16, -1, False),
        "whole 1/14": (other, 1 / 14, -1, False),
        "edges": (edge, 1 / 16, 2, True),
        "small": (tiny, 1 / 16, 2, False),
        "thin": (thin, 1 / 16, 3, True),
        "far": (far, 1 / 16, -1, True),
    }


def implementations() -> dict[str, Callable]:
    """Those that can be imported, and those that are written down here."""
    found: dict[str, Callable] = {}
    try:
        import roicli

        found["roicli"] = lambda image, boxes, scale, ratio, aligned: roicli.roi_align(
            image[None], boxes, SIZE, scale, ratio, aligned=aligned
        )[:, 0]
    except ImportError:
        pass
    try:
        import torch
        from torchvision.ops import roi_align

        found["torchvision"] = lambda image, boxes, scale, ratio, aligned: roi_align(
            torch.from_numpy(image)[None, None], [torch.from_numpy(boxes)], SIZE, scale, ratio, aligned
        ).numpy()[:, 0]
    except ImportError:
        pass
    try:
        import onnxruntime
        from onnx import TensorProto, helper

        def by_onnx(image, boxes, scale, ratio, aligned):
            mode = "half_pixel" if aligned else "output_half_pixel"
            attributes = {"output_height": SIZE[0], "output_width": SIZE[1], "spatial_scale": scale}
            attributes |= {"sampling_ratio": max(ratio, 0), "coordinate_transformation_mode": mode}
            node = helper.make_node("RoiAlign", ["X", "R", "I"], ["Y"], **attributes)
            inputs = [
                helper.make_tensor_value_info("X", TensorProto.FLOAT, [1, 1, *image.shape]),
                helper.make_tensor_value_info("R", TensorProto.FLOAT, boxes.shape),
                helper.make_tensor_value_info("I", TensorProto.INT64, [len(boxes)]),
            ]
            outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)]
            graph = helper.make_graph([node], "g", inputs, outputs)
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
            session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
            given = {"X": image[None, None], "R": boxes, "I": np.zeros(len(boxes), np.int64)}
            return session.run(None, given)[0][:, 0]

        found["ONNX Runtime"] = by_onnx
    except ImportError:
        pass
    try:
        import openvino
        from openvino import opset9

        def by_openvino(image, boxes, scale, ratio, aligned):
            given = [image[None, None], boxes, np.zeros(len(boxes), np.int32)]
            inputs = [opset9.parameter(one.shape, one.dtype.type) for one in given]
            mode = "half_pixel_for_nn" if aligned else "asymmetric"
            node = opset9.roi_align(*inputs, *SIZE, max(ratio, 0), scale, "avg", aligned_mode=mode)
            hint = {"INFERENCE_PRECISION_HINT": "f32"}
            compiled = openvino.Core().compile_model(openvino.Model([node], inputs), "CPU", hint)
            return np.asarray(next(iter(compiled(given).values())))[:, 0]

        found["OpenVINO"] = by_openvino
    except ImportError:
        pass
    for name, order in ORDERS.items():

        def written(image, boxes, scale, ratio, aligned, order=order):
            return pooled(image, boxes, scale, ratio, aligned, REAL, order)

        found[name] = written
    return found


def score(got, right) -> tuple[float, int]:
    """The largest error in ULP of the largest value of its box, and the box."""
    unit = np.spacing(np.abs(right).max(axis=(1, 2)).astype(np.float32)).astype(np.float64)
    off = np.abs(np.asarray(got, np.float64) - right).max(axis=(1, 2)) / np.maximum(unit, 2.0**-30)
    return float(off.max()), int(off.argmax())


def main() -> None:
    """Print two tables, in Markdown: an implementation a line, and the box of each case that shows roicli's error."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((HEIGHT, WIDTH)).astype(np.float32)
    every, worst = implementations(), {}
    lines: dict[str, list[str]] = {who: [] for who in every}
    for name, (given, scale, ratio, aligned) in cases(rng).items():
        boxes = np.ascontiguousarray(given, np.float32)
        right = exact(image, boxes, scale, ratio, aligned)
        for who, compute in every.items():
            ulp, row = score(compute(image, boxes, scale, ratio, aligned), right)
            lines[who].append(f"{ulp:,.1f}" if ulp < 100 else f"{ulp:,.0f}" if ulp < 1e6 else f"{ulp / 1e6:.2f} M")
            worst.setdefault(name, ", ".join(f"{one:.9g}" for one in boxes[row].tolist()))
    print("| | " + " | ".join(worst) + " |\n|---|" + "---:|" * len(worst))
    print("\n".join(f"| {who} | " + " | ".join(cells) + " |" for who, cells in lines.items()))
    print("\n".join(f"| `{name}` | {box} |" for name, box in worst.items()))


if __name__ == "__main__":
    main()
