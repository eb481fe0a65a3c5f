"""Pictures of traces: colours and places are what the numbers mean, and odd cases draw."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roicli import trace_bin
from roicli.errors import OutputError, UsageError
from roicli.picture import draw
from roicli.picture.colours import BLANK, HATCH, ORANGE, PALETTE, Scale
from roicli.picture.figure import Figure, Moment, story
from roicli.picture.panels import bar_ticks, short
from roicli.picture.view import plan

SAMPLES = Path(__file__).parents[1] / "sample_data"
RNG = np.random.default_rng(3)
SMALL = RNG.standard_normal((2, 8, 10)).astype(np.float32)
MIDDLE = RNG.standard_normal((1, 50, 68)).astype(np.float32)
BIG = RNG.standard_normal((1, 200, 272)).astype(np.float32)
HOLES = np.where(np.arange(80).reshape(1, 8, 10) == 23, np.nan, SMALL[:1])
BOX = [1.2, 1.3, 6.4, 5.2]


class Drawn:
    """A still of one trace, and where feature coordinates lie in it."""

    def __init__(self, trace, path, **settings):
        draw([trace], path, **settings)
        self.view, room = plan([trace])
        window = trace.plane[self.view.window(*trace.plane.shape)]
        self.scale = Scale.of(window, trace.pooled)
        self.origin = Figure(trace, self.view, self.scale, room, "").origin
        with Image.open(path) as image:
            self.pixels = np.asarray(image)

    def pixel(self, y, x):
        right, down = self.view.at(y, x)
        return tuple(self.pixels[int(self.origin[1] + down), int(self.origin[0] + right)].tolist())

    def colour(self, value):
        return tuple(self.scale.colours(np.array(value)).tolist())


def tutorial(**settings):
    box = json.loads((SAMPLES / "tutorial.json").read_text())[0]
    return trace_bin(np.load(SAMPLES / "tutorial.npy"), box, 2, **settings)


def test_cells_have_the_colours_of_their_values(tmp_path):
    trace = trace_bin(SMALL, BOX, 2, channel=1, sampling_ratio=2)
    drawn = Drawn(trace, tmp_path / "a.png")
    for y, x in [(0, 0), (7, 0), (7, 8), (3, 7), (6, 4)]:  # outside of the RoI, where nothing else is drawn
        assert drawn.pixel(y, x) == drawn.colour(trace.plane[y, x])
        assert drawn.pixel(y - 0.45, x - 0.45) == drawn.pixel(y, x)  # a cell is centred on its number
    assert drawn.pixel(3, -1) == BLANK


def test_the_colour_map_spans_its_range():
    scale = Scale(-2, 6)
    assert [tuple(colour) for colour in scale.colours(np.array([-2, 2, 6])).tolist()] == [
        *((68, 1, 84), (33, 144, 141), (253, 231, 37)),
    ]
    luminance = scale.colours(np.linspace(-2, 6, 50)) @ [0.299, 0.587, 0.114]
    assert (np.diff(luminance) > 0).all()  # reads in grey, too
    largest = np.finfo(np.float64).max
    assert Scale(-largest, largest).colours(np.array(0.0)).tolist() == [33, 144, 141]


@pytest.mark.parametrize("aligned", [False, True])
def test_samples_lie_where_their_coordinates_say(tmp_path, aligned):
    trace = tutorial(aligned=aligned)
    drawn = Drawn(trace, tmp_path / "a.png", point=3)
    for y, x in zip(trace.y, trace.x, strict=True):
        assert drawn.pixel(y, x) == ORANGE
    for y in trace.sample_rows[1]:
        for x in trace.sample_columns.ravel():
            assert drawn.pixel(y, x) == (255, 255, 255)  # samples of other bins
    between = (trace.y[3] + trace.rows[3, 0]) / 2, (trace.x[3] + trace.columns[3, 1]) / 2
    assert drawn.pixel(*between) == ORANGE  # the line to a neighbour


def test_aligned_shifts_the_roi_by_half_a_cell(tmp_path):
    box = [1.5, 1.5, 5.5, 5.5]
    for aligned, left in [(False, 1.5), (True, 1.0)]:
        trace = trace_bin(SMALL, box, 1, aligned=aligned, sampling_ratio=1)
        drawn = Drawn(trace, tmp_path / f"{aligned}.png")
        assert drawn.pixel(left + 1, left) == ORANGE
        assert drawn.pixel(left + 1, 2.5 - left) != ORANGE


@pytest.mark.parametrize(
    ("features", "box", "rows", "columns"),
    [
        (BIG, [100, 50, 190, 110], (48, 113), (98, 193)),  # two cells around the RoI
        (SMALL, [1, 1, 9, 7], (-1, 9), (-1, 11)),  # one cell off the map
        (MIDDLE, [-10, 3, 12, 9], (1, 12), (-10, 15)),  # no margin where the RoI is off the map
        (MIDDLE, [-1e4, 3, 12, 9], (1, 12), (-34, 15)),  # half the map's width, at most
        (MIDDLE, [200, 3, 210, 9], (1, 12), (66, 102)),  # two cells of the map, at least
        (BIG, [-4000, -10, 4000, 205], (-10, 206), (-1, 273)),  # too wide: the map
    ],
)
def test_crops(features, box, rows, columns):
    view, _ = plan([trace_bin(features, box, 2, sampling_ratio=1)])
    assert (view.first_row, view.first_row + view.rows) == rows
    assert (view.first_column, view.first_column + view.columns) == columns


def test_a_bin_of_1e30_cells_ends_where_it_does(tmp_path):
    trace = trace_bin(MIDDLE, [-1e30, -1e30, 1e30, 1e30], 2, sampling_ratio=2)
    drawn = Drawn(trace, tmp_path / "a.png")
    assert drawn.pixel(-20, 0) == drawn.pixel(0, -20) == ORANGE
    assert drawn.pixel(60, 0) == drawn.pixel(0, 90) == (255, 255, 255)  # the edges of the next bins


def test_two_traces_share_crop_and_colours():
    pair = [trace_bin(MIDDLE, [5, 6, 20, 25], 3, aligned=True), trace_bin(MIDDLE, [5, 6, 20, 25], 3, op="roi_pool")]
    assert plan(pair) == plan(pair[::-1])
    view, _ = plan(pair)
    assert view.holds(pair[0])
    assert view.holds(pair[1])


@pytest.mark.parametrize(
    ("features", "box", "size", "settings"),
    [
        pytest.param(MIDDLE, [-10, -8, 12, 9], (3, 4), {"bin": (1, 2), "aligned": True}, id="half outside"),
        pytest.param(np.ones((1, 1, 1)), [0, 0, 1, 1], 2, {"aligned": True}, id="1 x 1"),
        pytest.param(BIG, [100, 50, 190, 110], 7, {"bin": (3, 3)}, id="large"),
        pytest.param(BIG, [-4000, -10, 4000, 205], 7, {"sampling_ratio": 2}, id="8000 cells wide"),
        pytest.param(np.zeros((1, 3, 3000)), [0, 0, 3000, 3], 7, {"sampling_ratio": 2}, id="long map"),
        pytest.param(MIDDLE, [-1e30, -1e30, 1e30, 1e30], 2, {"sampling_ratio": 2}, id="1e30 cells"),
        pytest.param(MIDDLE, [-1e5, -1e5, 1e5, 1e5], 7, {"sampling_ratio": 1000}, id="50 million samples"),
        pytest.param(MIDDLE, [10, 8, 40, 35], 14, {"bin": (3, 9)}, id="14 x 14"),
        pytest.param(MIDDLE, [3, 4, 40, 40], (300, 200), {"sampling_ratio": 2, "bin": (150, 9)}, id="300 x 200"),
        pytest.param(BIG, [100.1, 50.2, 100.6, 50.6], 7, {"aligned": True}, id="smaller than a cell"),
        pytest.param(SMALL * np.nan, BOX, 2, {}, id="all nan"),
        pytest.param(HOLES, BOX, 2, {"mode": "max"}, id="nan"),
        pytest.param(SMALL * 1e-8, BOX, 2, {}, id="1e-8"),
        pytest.param(SMALL * 1e38, BOX, 2, {}, id="1e38"),
        pytest.param(np.sign(SMALL) * np.inf, BOX, 2, {"mode": "max"}, id="infinite"),
        pytest.param(SMALL.astype(np.float16), BOX, 2, {}, id="float16"),
        pytest.param(np.arange(80).reshape(1, 8, 10), BOX, 2, {}, id="integers"),
        pytest.param(MIDDLE, [200, 100, 220, 110], 2, {}, id="off the map"),
        pytest.param(MIDDLE, [10, 10, 10, 12], 2, {"aligned": True}, id="no samples"),
        pytest.param(MIDDLE, [30, 30, 10, 12], 3, {"aligned": True, "sampling_ratio": 2}, id="inverted"),
        pytest.param(MIDDLE, [200, 10, 210, 20], 2, {"op": "roi_pool"}, id="no cells"),
    ],
)
def test_odd_cases_draw_within_bounds(tmp_path, features, box, size, settings):
    draw([trace_bin(features, box, size, **settings)], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert 300 < image.width <= 1900
        assert 200 < image.height <= 1900


def test_a_pair_of_large_maps_stays_within_bounds(tmp_path):
    box = [-20, -10, 280, 205]
    pair = [trace_bin(BIG, box, 7, sampling_ratio=2), trace_bin(BIG, box, 7, op="roi_pool")]
    draw(pair, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert max(image.size) <= 1900


def test_nan_is_hatched(tmp_path):
    assert np.isnan(HOLES[0, 2, 3])
    trace = trace_bin(HOLES, [4, 3, 7, 7], 2)
    drawn = Drawn(trace, tmp_path / "a.png")
    assert drawn.pixel(2, 3) in {tuple(colour) for colour in HATCH.tolist()}
    assert np.isfinite([drawn.scale.low, drawn.scale.high]).all()


@pytest.mark.parametrize(
    ("settings", "frames"), [({}, 6), ({"sampling_ratio": 3}, 9), ({"sampling_ratio": 20}, 12)], ids=str
)
def test_an_animation_has_a_frame_for_each_sample(tmp_path, monkeypatch, settings, frames):
    monkeypatch.setattr("roicli.picture.MOST_FRAMES", 12)
    draw([tutorial(**settings)], tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == frames
        image.seek(frames - 2)
        each = image.info["duration"]
        image.seek(frames - 1)
        assert image.info["duration"] > 3 * each
        assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)


def test_a_palette_has_256_colours():
    assert PALETTE.shape == (256, 3)


def test_the_story_adds_up():
    trace = tutorial()
    assert story(trace, Moment(1, 1)) == [
        "Point 1: y 0.7409, x 3.151",
        "   0.22 x 0.0127\trow 0, column 3",
        "   0.0392 x 0.0739\trow 0, column 4",
        "   0.629 x 0\trow 1, column 3",
        "   0.112 x 0\trow 1, column 4",
        "   = 0.00569518",
        "Sum of 2 of 6: 0.0298437",
    ]
    assert story(trace, Moment(0, 5))[-2:] == ["Sum of 6 of 6: 0.0298437", "Result, the mean: 0.00497395"]
    opposed = trace_bin(np.where(np.arange(10) < 5, np.inf, -np.inf) * np.ones((1, 8, 1)), BOX, 1)
    assert {np.inf, -np.inf} <= set(opposed.interpolated.tolist())
    assert story(opposed, Moment(0, opposed.count - 1))[-1] == "Result, the mean: nan"
    assert story(trace_bin(SMALL, BOX, 2, op="roi_pool"), Moment(0, 1))[-1].startswith("Maximum of 2 of ")
    assert story(trace_bin(SMALL, [-9, -9, -5, -5], 1, sampling_ratio=1), Moment(0, 0))[1] == "   out of range = 0"


def test_numbers_are_short_and_ticks_differ():
    assert [short(value) for value in (1e-8, -1.234e20, 0.00497395, -0.0, np.nan)] == [
        *("1e-8", "-1.23e20", "0.00497", "0", "nan"),
    ]
    assert [words for _, words in bar_ticks(Scale(1e8, 1e8 + 1), 120)] == ["100000000", "100000001"]
    assert bar_ticks(Scale(3, 3), 300) == [(3, "3")]
    assert bar_ticks(Scale(np.nan, np.nan), 300) == []


def test_points_out_of_range(tmp_path):
    trace = tutorial()
    for point in (-1, 6):
        with pytest.raises(UsageError, match=rf"point {point} is not among the 6 samples of this bin\nGive 0 to 5\."):
            draw([trace], tmp_path / "a.png", point=point)
    other = tutorial(sampling_ratio=1)
    draw([trace, other], tmp_path / "a.png", point=5, titles=["a", "b"])
    with pytest.raises(UsageError, match="point 5 is not among the 1 samples"):
        draw([other, trace], tmp_path / "b.png", point=5)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"a picture cannot be a \.jpg\nUse \.png or \.gif\."):
        draw([tutorial()], tmp_path / "a.jpg")


def test_failures_leave_nothing(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="cannot write: No such file or directory"):
        draw([tutorial()], tmp_path / "missing" / "a.png")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(OutputError, match="No space left"):
        draw([tutorial()], tmp_path / "a.png")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
