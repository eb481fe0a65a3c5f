"""What every operator must hold, and that a new one is one file: it is written here and used by the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import roicli
from roicli import conventions
from roicli.cli.main import main
from roicli.errors import UsageError
from roicli.pooling import operators
from roicli.pooling.arguments import make_spec
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.extents import lie_outside
from roicli.pooling.operators.base import Operator, Placed
from roicli.pooling.operators.cell import Cell
from roicli.pooling.operators.precise_roi_pool import PreciseRoIPool
from roicli.pooling.operators.ps_roi_align import PsRoIAlign
from roicli.pooling.operators.ps_roi_pool import PsRoIPool
from roicli.pooling.operators.roi_align import RoIAlign
from roicli.pooling.operators.roi_align_rotated import RoIAlignRotated
from roicli.pooling.operators.roi_pool import RoIPool
from roicli.pooling.operators.window_mean import WindowMean
from roicli.pooling.placement import place
from roicli.pooling.reads import Axis, crossed
from roicli.pooling.reference import (
    cell_reference,
    precise_roi_pool_reference,
    ps_roi_align_reference,
    ps_roi_pool_reference,
    roi_align_reference,
    roi_align_rotated_reference,
    roi_pool_reference,
    window_mean_reference,
)
from roicli.pooling.sampling import make_bins, sample_coordinates, sides
from roicli.pooling.trace import trace_placed
from roicli.pooling.turned import place_turned
from roicli.spec import PoolSpec

SIZE = (3, 2)  # never one number for both axes

ends = st.one_of(
    st.floats(-12, 24, width=32),
    st.integers(-24, 48).map(lambda n: n / 2),  # on cells, between cells, on the border
    st.sampled_from([-1.0, -0.9, 8.3, 8.45, 8.5, 7.5, 1e6, -1e6]),
)
boxes = st.lists(st.tuples(ends, ends, ends, ends), min_size=1, max_size=4).map(
    lambda some: np.array([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in some], np.float32)
)
inherited = settings(suppress_health_check=[HealthCheck.differing_executors], max_examples=60)


def pooled(features, placement, spec):
    """All regions of one map."""
    channels = operators.find(spec.op).channels(len(features), spec)
    out = np.empty((len(placement), *spec.row_shape(channels)), np.float32)
    pool_maps(lambda _: channels_last(features), placement, features.shape[1:], spec, out)
    return out


class OperatorConformance:
    """A subclass names an operator, its loops, and settings that it has."""

    operator: Operator
    settings: tuple[dict, ...] = ({},)
    channels = 2  # of the map

    @staticmethod
    def reference(features, rois, spec, spatial_scale):
        raise NotImplementedError

    def spec(self, data):
        chosen = data.draw(st.sampled_from(self.settings))
        mode = data.draw(st.sampled_from(self.operator.modes))
        return PoolSpec(SIZE, mode=mode, op=self.operator.name, **chosen)

    def placement(self, data):
        some = data.draw(boxes)
        scale = data.draw(st.sampled_from([1.0, 0.5, 0.7]))
        return place(np.zeros(len(some), np.intp), some, (scale, data.draw(st.sampled_from([1.0, scale]))))

    @staticmethod
    def numbers(placement):
        """What the loops take of a region."""
        return placement.boxes

    @pytest.fixture(autouse=True)
    def _known(self, monkeypatch):
        monkeypatch.setattr(operators, "_registered", {**operators._registered, self.operator.name: self.operator})

    @inherited
    @given(data=st.data())
    def test_equals_its_loops(self, data):
        spec, placement = self.spec(data), self.placement(data)
        features = np.random.default_rng(0).standard_normal((self.channels, 8, 5)).astype(np.float32)
        rois = np.insert(self.numbers(placement), 0, 0, axis=1).astype(np.float32)
        if np.abs(rois).max() > 1e3:
            return  # which the loops would take minutes for
        expected = self.reference(features[None], rois, spec, np.broadcast_to(placement.scale, (len(rois), 2)))
        np.testing.assert_allclose(pooled(features, placement, spec), expected, rtol=0, atol=2e-6)
        mean = expected.mean(axis=(2, 3))
        length = np.sqrt((mean**2).sum(axis=1, keepdims=True))
        unit = np.divide(mean, length, out=np.zeros_like(mean), where=length != 0)
        for reduce, vector in (("mean", mean), ("max", expected.max(axis=(2, 3))), ("l2", unit)):
            got = pooled(features, placement, replace(spec, reduce=reduce))
            np.testing.assert_allclose(
                got, vector, rtol=0, atol=2e-6 if reduce != "l2" else 2e-6 / max(length.min(initial=1), 1e-6)
            )

    @inherited
    @given(data=st.data())
    def test_a_region_does_not_depend_on_its_neighbours(self, data):
        spec, placement = self.spec(data), self.placement(data)
        features = np.random.default_rng(0).standard_normal((self.channels, 8, 5)).astype(np.float32)
        together = pooled(features, placement, spec)
        for row in range(len(placement)):
            np.testing.assert_array_equal(pooled(features, placement.take([row]), spec)[0], together[row])

    @inherited
    @given(data=st.data())
    def test_what_it_traces_is_what_it_computes(self, data):
        spec, placement = self.spec(data), self.placement(data).take([0])
        features = np.random.default_rng(0).standard_normal((self.channels, 8, 5)).astype(np.float32)
        block = pooled(features, placement, spec)
        at = (data.draw(st.integers(0, 2)), data.draw(st.integers(0, 1)))
        if np.ptp(placement.boxes) > 1e3:
            return  # which has more samples than can be traced
        trace = trace_placed(features, placement, spec, at, 1)
        np.testing.assert_allclose(trace.result, block[(0, 1, *at)], rtol=0, atol=1e-6)
        assert trace.count == trace.grid[0] * trace.grid[1] == len(trace.y) == len(trace.iy)
        np.testing.assert_allclose(trace.weights.sum(axis=1)[trace.in_range], 1, atol=1e-6)
        for text in (self.operator.noun, self.operator.convention(spec), self.operator.sampling(spec)):
            assert text.isprintable()

    @inherited
    @given(data=st.data())
    def test_what_lies_outside_reads_nothing(self, data):
        """And what does not reads something, unless it has no samples."""
        spec, placement = self.spec(data), self.placement(data)
        fives = np.full((self.channels, 8, 5), 5, np.float32)
        zero = (pooled(fives, placement, spec) == 0).all(axis=(1, 2, 3))
        sizes = np.tile([8.0, 5.0], (len(placement), 1))
        outside = lie_outside(placement.rounded(np.float32), sizes, spec)
        empty = self.operator.is_empty(placement.rounded(np.float32), spec)
        assert (outside | empty).tolist() == zero.tolist()

    def test_settings_that_it_has_not(self):
        for mode in {"avg", "max"} - set(self.operator.modes):
            with pytest.raises(UsageError, match=self.operator.title):
                self.operator.check(PoolSpec(SIZE, mode=mode, op=self.operator.name))
        other = PoolSpec(SIZE, 2, aligned=True, mode="avg", op="another")
        self.operator.check(self.operator.adopt(other))
        assert self.operator.adopt(other).output_size == SIZE


class TestRoIAlign(OperatorConformance):
    operator = RoIAlign()
    reference = staticmethod(roi_align_reference)
    settings = (
        {},
        {"aligned": True},
        {"sampling_ratio": 1},
        {"sampling_ratio": 2, "aligned": True},
        {"sampling_ratio": 3},
    )


class TestRoIPool(OperatorConformance):
    operator = RoIPool()
    reference = staticmethod(roi_pool_reference)


class TestRoIAlignRotated(OperatorConformance):
    operator = RoIAlignRotated()
    reference = staticmethod(roi_align_rotated_reference)
    settings = ({"aligned": True}, {"aligned": True, "sampling_ratio": 2})

    def placement(self, data):
        x1, y1, x2, y2 = np.clip(data.draw(boxes), -1e4, 1e4).astype(np.float64).T
        degrees = data.draw(st.sampled_from([0.0, 90, -30, 45.5, 180, 271]))
        scale = data.draw(st.sampled_from([1.0, 0.5, 0.7]))
        turned = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, np.full_like(x1, degrees)], axis=1)
        turned[:, 2:4] = np.minimum(turned[:, 2:4], 300)  # more would be refused
        return place_turned(np.zeros(len(turned), np.intp), turned, scale)

    @staticmethod
    def numbers(placement):
        return placement.turned


class TestPsRoIAlign(OperatorConformance):
    operator = PsRoIAlign()
    reference = staticmethod(ps_roi_align_reference)
    settings = ({"aligned": True}, {"aligned": True, "sampling_ratio": 2})
    channels = 12


class TestPsRoIPool(OperatorConformance):
    operator = PsRoIPool()
    reference = staticmethod(ps_roi_pool_reference)
    channels = 12


class TestPreciseRoIPool(OperatorConformance):
    operator = PreciseRoIPool()
    reference = staticmethod(precise_roi_pool_reference)


class TestWindowMean(OperatorConformance):
    operator = WindowMean()
    reference = staticmethod(window_mean_reference)


class TestCell(OperatorConformance):
    operator = Cell()
    reference = staticmethod(cell_reference)

    def test_cells_that_lie_on_either_side_of_the_map(self):
        """No bin of the last box has its centre on the map, though half of the box lies on it."""
        placement = place(np.zeros(2, np.intp), np.array([[0, 0, 4, 4.0], [-4, -6.5, 9.5, 7.5]]))
        spec = PoolSpec(SIZE, op="cell")
        assert (pooled(np.ones((1, 8, 5), np.float32), placement, spec)[1] == 0).all()
        outside = lie_outside(placement.rounded(np.float32), np.tile([8.0, 5.0], (2, 1)), spec)
        assert outside.tolist() == [False, True]


# A throw-away operator: what follows, up to its loops, is all that a new one costs.


@pytest.mark.parametrize("name", [one.name for one in conventions.ALL.values() if "op" not in one.settings])
@pytest.mark.parametrize("ratio", [-1, 2])
def test_what_is_said_of_inverted_boxes(name, ratio):
    """Also under conventions, which have a least extent, or samples without, that `aligned` does not tell of."""
    spec = make_spec(1, sampling_ratio=ratio, **conventions.find(name).settings)
    cells, placed = np.ones((9, 9, 1), np.float32), place(np.zeros(1, np.intp), np.array([[6.0, 6, 3, 3]]))
    out = np.empty((1, 1, 1, 1), np.float32)
    pool_maps(lambda _: cells, placed, (9, 9), spec, out)
    assert ("zeros" in operators.find("roi_align").inverted(spec)) == (not out.any())


class Nearest(Operator):
    """A bin is the cell nearest to its centre."""

    name, title, noun, interpolates = "nearest", "Nearest", "cell", False

    def _centres(self, regions, size, spec):
        for ends, number, length in zip(sides(regions), spec.output_size, size, strict=True):
            bins = make_bins(ends, number, length, replace(spec, sampling_ratio=1))
            bin_index = np.arange(len(regions) * number)
            yield bins, sample_coordinates(bins, bin_index, np.zeros_like(bin_index)).reshape(-1, number)

    def place(self, regions, size, spec, kernel):
        return _Cells(*(np.floor(at + 0.5) for _, at in self._centres(regions, size, spec)), spec)

    def extents(self, regions, size, spec):
        (y, _), (x, _) = self._centres(regions, (1, 1), spec)
        return np.stack([x.start, y.start, x.end(), y.end()], axis=1)

    def reads(self, regions, size, spec):
        axes = self._centres(regions, size, spec)
        (y, x) = ((np.floor(at + 0.5) >= 0) & (np.floor(at + 0.5) < bins.length) for bins, at in axes)
        return y.any(axis=1) & x.any(axis=1)

    def trace(self, region, size, spec, bin):
        axes = [self._axis(*axis, at) for axis, at in zip(self._centres(region, size, spec), bin, strict=True)]
        return crossed(*axes, self.extents(region, size, spec)[0])

    def _axis(self, bins, centres, bin):
        at = centres[0, bin : bin + 1]
        cell = np.floor(at + 0.5)
        inside = (cell >= 0) & (cell < bins.length)
        cells = np.tile(np.clip(cell, 0, bins.length - 1).astype(np.intp), 2)[None]
        weights = np.array([[1, 0]], at.dtype)
        return Axis(bins.edges(), centres.T, at, cells, weights, inside, np.zeros(1, np.bool_))

    def combine(self, values, spec):
        return float(values[0]), None


class _Cells(Placed):
    def __init__(self, rows, columns, spec):
        super().__init__(spec)
        self._rows, self._columns = rows, columns

    def pool(self, feature_map, first, stop, out):
        height, width, _ = feature_map.shape
        with self.blocks(out) as blocks:
            for block, y, x in zip(blocks, self._rows[first:stop], self._columns[first:stop], strict=True):
                inside = ((y >= 0) & (y < height))[:, None] & (x >= 0) & (x < width)
                rows, columns = (np.clip(c, 0, end - 1).astype(int) for c, end in ((y, height), (x, width)))
                block[...] = np.where(inside, feature_map[rows[:, None], columns].transpose(2, 0, 1), 0)


def nearest_reference(features, rois, spec, spatial_scale):
    real = np.float32
    out = np.zeros((len(rois), features.shape[1], *spec.output_size), real)
    for k, (_, *box) in enumerate(rois):
        scale_y, scale_x = map(real, spatial_scale[k])
        x1, y1, x2, y2 = (real(side) * s for side, s in zip(box, (scale_x, scale_y) * 2, strict=True))
        high, wide = (
            max(y2 - y1, real(1)) / real(spec.output_size[0]),
            max(x2 - x1, real(1)) / real(spec.output_size[1]),
        )
        for ph, pw in np.ndindex(*spec.output_size):
            y = int(np.floor(y1 + real(ph) * high + real(0.5) * high + real(0.5)))
            x = int(np.floor(x1 + real(pw) * wide + real(0.5) * wide + real(0.5)))
            if 0 <= y < features.shape[2] and 0 <= x < features.shape[3]:
                out[k, :, ph, pw] = features[0, :, y, x]
    return out


class TestNearest(OperatorConformance):
    operator = Nearest()
    reference = staticmethod(nearest_reference)


@pytest.fixture
def nearest(monkeypatch, tmp_path):
    """The operator registered, and a job's files in the current folder."""
    monkeypatch.setattr(operators, "_registered", dict(operators._registered))
    operators.register(Nearest())
    monkeypatch.chdir(tmp_path)
    features = np.random.default_rng(0).standard_normal((4, 8, 5)).astype(np.float32)
    np.save("map.npy", features)
    (tmp_path / "boxes.json").write_text("[[2, 1, 9, 15], [-30, 0, -20, 9], [0, 4, 10, 8]]")
    return features


def command(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_new_operator_by_the_command_line(nearest):
    rois = np.array([[0, 2, 1, 9, 15], [0, -30, 0, -20, 9], [0, 0, 4, 10, 8]], np.float32)
    spec = PoolSpec(SIZE, op="nearest")
    expected = nearest_reference(nearest[None], rois, spec, np.full((3, 2), 0.5))
    said = command(
        "align", "map.npy", "boxes.json", "-o", "out.npz", "--op", "nearest", "--size", "3x2", "--spatial-scale", "1/2"
    )
    assert "boxes wholly outside their maps: 1 of 3" in said
    with np.load("out.npz") as archive:
        np.testing.assert_array_equal(archive["features"], expected)
        assert json.loads(str(archive["parameters"]))["op"] == "nearest"
    assert "1 wholly" in command("check", "map.npy", "boxes.json", "--op", "nearest", "--spatial-scale", "1/2")


def test_a_new_operator_is_traced(nearest, tmp_path):
    asked = ["trace", "map.npy", "boxes.json", "--op", "nearest", "--size", "3x2", "--bin", "2,1", "--channel", "3"]
    said = command(*asked, "--json")
    trace = json.loads(said[said.index("{") :])["traces"][0]
    assert (
        trace["result"]
        == trace["align_value"]
        == roicli.trace_bin(nearest, [2, 1, 9, 15], SIZE, op="nearest", bin=(2, 1), channel=3).result
    )
    shown = command(*asked, "--vs", "roi-pool", "--picture", "bin.png")
    assert "Nearest" in shown
    assert "RoIPool" in shown
    assert (tmp_path / "bin.png").stat().st_size > 0


def test_the_registry_names_the_choices(nearest):
    assert operators.names()[-1] == "nearest"
    spelled = ", ".join(f"'{name}'" for name in operators.names()).replace("_", "-")
    for name in ("align", "check", "trace"):
        said = CliRunner().invoke(main, [name, "map.npy", "boxes.json", "--op", "median"])
        assert said.exit_code == 2
        assert f"'median' is not one of {spelled}" in " ".join(said.output.split())
    with pytest.raises(UsageError, match=r"op must be one of roi_align, .*, nearest, got 'median'"):
        operators.find("median")
