"""Pictures of traces: colours and places are what the numbers mean, and odd cases draw."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roicli import trace_bin
from roicli.errors import OutputError, UsageError
from roicli.picture import draw
from roicli.picture.canvas import text_width
from roicli.picture.colours import BLANK, HATCH, ORANGE, PALETTE, Scale
from roicli.picture.figure import PAD, TITLE_SIZE, Figure
from roicli.picture.labels import frame_boxes, write_values_aside
from roicli.picture.panels import bar_ticks, cells, short
from roicli.picture.samples import Samples
from roicli.picture.story import Moment, difference, facts, legend, story
from roicli.picture.view import plan

SAMPLES = Path(__file__).parents[2] / "sample_data"
RNG = np.random.default_rng(3)
SMALL = RNG.standard_normal((2, 8, 10)).astype(np.float32)
MIDDLE = RNG.standard_normal((1, 50, 68)).astype(np.float32)
BIG = RNG.standard_normal((1, 200, 272)).astype(np.float32)
HOLES = np.where(np.arange(80).reshape(1, 8, 10) == 23, np.nan, SMALL[:1])
BOX = [1.2, 1.3, 6.4, 5.2]


def figure_of(trace, title="", point=0):
    view, room = plan([trace])
    scale = Scale.of(trace.plane[view.window(*trace.plane.shape)], trace.pooled)
    return Figure(trace, view, scale, room, title, [Moment(point, trace.count - 1)])


class Drawn:
    """One frame of a picture of one trace, and where feature coordinates lie in it."""

    def __init__(self, trace, path, frame=0, **settings):
        draw([trace], path, **settings)
        self.figure = figure_of(trace)
        self.view, self.scale, self.origin = self.figure.view, self.figure.scale, self.figure.origin
        with Image.open(path) as image:
            image.seek(frame)
            self.pixels = np.asarray(image.convert("RGB"))

    def pixel(self, y, x):
        return tuple(self.around(y, x, 0)[0, 0].tolist())

    def around(self, y, x, reach):
        right, down = self.view.at(y, x)
        row, column = int(self.origin[1] + down), int(self.origin[0] + right)
        return self.pixels[row - reach : row + reach + 1, column - reach : column + reach + 1]

    def map(self):
        x, y = self.origin
        return self.pixels[y : y + self.view.height, x : x + self.view.width]

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
        (MIDDLE, [80, 3, 90, 9], (1, 12), (66, 91)),  # two cells of the map, at least
        (MIDDLE, [200, 3, 210, 9], (-1, 51), (-1, 212)),  # too far for that: the map and the RoI
        (MIDDLE, [200, -1e5, 210, -9e4], (-1, 51), (-1, 69)),  # too far for that: the map
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
        pytest.param(MIDDLE, [-1e5, -1e5, 1e5, 1e5], 7, {"sampling_ratio": 300}, id="4 million samples"),
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
        pytest.param(MIDDLE, [-10, -8, 12, 9], (3, 4), {"op": "roi_pool", "bin": (1, 2)}, id="cells half outside"),
        pytest.param(MIDDLE, [-1e9, -1e9, 1e9, 1e9], 7, {"op": "roi_pool"}, id="1e9 cells"),
        pytest.param(MIDDLE, [1e9, 1e9, 2e9, 2e9], 7, {"op": "roi_pool"}, id="cells far away"),
        pytest.param(SMALL * np.nan, BOX, 2, {"op": "roi_pool"}, id="cells all nan"),
        pytest.param(SMALL, [3, 3, 3, 3], 2, {"aligned": True, "sampling_ratio": 2}, id="no extent"),
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


@pytest.mark.parametrize(
    ("box", "settings"),
    [
        ([2.5, 1.9, 3.5, 2.9], {"sampling_ratio": 1}),  # on the value of a cell
        ([1.5, 1.5, 3.3, 3.3], {"sampling_ratio": 4}),  # beside a neighbour, where its weight might be
        ([2.9, 2.6, 4.1, 3.4], {"sampling_ratio": 3}),
    ],
)
def test_no_text_hides_a_sample(tmp_path, box, settings):
    trace = trace_bin(SMALL, box, 1, **settings)
    for point in range(trace.count):
        drawn = Drawn(trace, tmp_path / "a.png", point=point)
        for y, x in zip(trace.y, trace.x, strict=True):
            assert (drawn.around(y, x, 2) == ORANGE).all()


def test_no_line_hides_a_sign(tmp_path):
    values = np.full((1, 8, 10), -0.456, np.float32)
    trace = trace_bin(values, [2.76, 1.3, 6.4, 4.42], 1, sampling_ratio=1)  # crosses signs, lower edges
    figure = figure_of(trace)
    lines = frame_boxes(trace, figure.view) + figure.map.samples.boxes()
    base, colours = cells(trace.plane, figure.view, figure.scale)
    for left, top, right, bottom in write_values_aside(base, trace, figure.view, colours, figure.map.samples, 0):
        assert not any(x0 < right and left < x1 and y0 < bottom and top < y1 for x0, y0, x1, y1 in lines)


@pytest.mark.parametrize("op", ["roi_align", "roi_pool"])
def test_samples_not_reached_yet_are_hollow(tmp_path, op):
    trace = trace_bin(SMALL, BOX, 2, op=op)
    drawn = Drawn(trace, tmp_path / "a.gif")
    for number, (y, x) in enumerate(zip(trace.y, trace.x, strict=True)):
        inner, row = drawn.pixel(y, x), drawn.around(y, x, 5)[5].tolist()
        assert list(ORANGE) in row
        assert inner == (ORANGE if number == 0 else (255, 255, 255))
    ends = Drawn(trace, tmp_path / "b.gif", frame=trace.count - 1)
    assert {ends.pixel(y, x) for y, x in zip(trace.y, trace.x, strict=True)} == {ORANGE}


def names(trace, moment):
    return [words for _, words in legend(trace, Samples.of(trace, plan([trace])[0]), moment)]


def test_the_legend_names_what_is_shown():
    trace = trace_bin(SMALL, BOX, 2, mode="max")
    last = trace.count - 1
    assert names(trace, Moment(0, last)) == ["sample of the traced bin", "the maximum", "samples of other bins"]
    assert names(trace, Moment(0, 0)) == [
        *("sample of the traced bin", "sample of the traced bin, not reached yet", "samples of other bins"),
    ]
    nothing = trace_bin(SMALL[:1] * np.nan, BOX, 2, op="roi_pool")
    assert names(nothing, Moment(0, nothing.count - 1)) == ["cell of the traced bin"]
    assert names(trace_bin(BIG, [20, 20, 250, 190], 7), Moment(0, 10**4)) == ["sample of the traced bin"]
    assert names(trace_bin(MIDDLE, [1e5, 0, 2e5, 9], 2, sampling_ratio=2), Moment(0, 3)) == []


@pytest.mark.parametrize("sampling_ratio", [-1, 2])
def test_a_roi_without_extent_is_seen(tmp_path, sampling_ratio):
    trace = trace_bin(SMALL, [3, 3, 3, 3], 2, aligned=True, sampling_ratio=sampling_ratio)
    near = Drawn(trace, tmp_path / "a.png").around(2.5, 2.5, 30)
    assert (near == 255).all(axis=2).sum() > 30  # the cross that points at it
    assert (near[24:37, 24:37] == ORANGE).all(axis=2).any()


def test_few_samples_are_all_drawn():
    trace = trace_bin(SMALL, [3.2, 3.2, 3.3, 3.3], 2, aligned=True, sampling_ratio=2)
    samples = Samples.of(trace, plan([trace])[0])
    assert (samples.shown.tolist(), samples.one_in) == ([0, 1, 2, 3], 1)
    trace = trace_bin(BIG, [20, 20, 250, 190], 7, mode="max", bin=(3, 3))
    samples = Samples.of(trace, plan([trace])[0])
    assert samples.one_in == 9
    assert trace.best in samples.shown


def test_a_map_of_small_cells_is_not_covered(tmp_path):
    drawn = Drawn(trace_bin(BIG, [20, 20, 250, 190], 7, bin=(3, 3)), tmp_path / "a.png")
    assert drawn.figure.has_close_up
    seen = drawn.scale.colours(BIG[0][drawn.view.window(*BIG[0].shape)])
    expected = seen.repeat(drawn.view.cell, axis=0).repeat(drawn.view.cell, axis=1)
    assert (drawn.map() == expected).all(axis=2).mean() > 0.85


@pytest.mark.parametrize("title", ["RoIAlign aligned, adaptive: annotation 2, id 3 of boxes.json, " * 5, "x" * 300])
def test_long_titles_are_whole(title):
    figure = figure_of(tutorial(), title)
    assert "".join(figure.title).replace(" ", "") == title.replace(" ", "")
    assert max(text_width(line, TITLE_SIZE) for line in figure.title) <= figure.width - 2 * PAD


def test_the_words_say_where_the_roi_is():
    def say(*args, **settings):
        trace = trace_bin(*args, **settings)
        view, _ = plan([trace])
        return facts(trace, view, Samples.of(trace, view))

    assert say(SMALL, BOX, 2) == ["RoI in cells: x 1.2 to 6.4, y 1.3 to 5.2", "Bin 0,0: 2 x 3 samples (adaptive)"]
    assert say(MIDDLE, [75.5, -20, 80, -10], 2, sampling_ratio=1)[2:] == [
        "The RoI lies outside the map, 8 columns to the right and 9.5 rows above.",
    ]
    assert say(MIDDLE, [-3000, 100, -2000, 110], 2, sampling_ratio=1)[3:] == ["It is not in the picture."]
    assert say(MIDDLE, [-3000, 10, 20, 12], 2, sampling_ratio=1)[2:] == ["The RoI reaches beyond what is shown."]


def test_a_pair_tells_the_difference(tmp_path):
    pair = [tutorial(), tutorial(aligned=True)]
    assert difference(pair) == f"Difference of the results, second less first: {pair[1].result - pair[0].result:.6g}"
    same = [tutorial(), tutorial()]
    draw(pair, tmp_path / "a.png")
    draw(same, tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert a.size == b.size
        foot = (0, a.height - 40, a.width, a.height)
        assert (np.asarray(a.crop(foot)) != np.asarray(b.crop(foot))).any()


def test_a_long_name(tmp_path):
    path = tmp_path / ("a" * 251 + ".png")
    draw([tutorial()], path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_nan_is_hatched(tmp_path):
    assert np.isnan(HOLES[0, 2, 3])
    trace = trace_bin(HOLES, [4, 3, 7, 7], 2)
    drawn = Drawn(trace, tmp_path / "a.png")
    assert drawn.pixel(2, 3) in {tuple(colour) for colour in HATCH.tolist()}
    assert np.isfinite([drawn.scale.low, drawn.scale.high]).all()
    word = drawn.around(2.4, 3, 6)
    assert (word == BLANK).all(axis=2).sum() > 40  # its name stands on a patch


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
    for values, maximum in [
        (HOLES, HOLES[0, 1:4, 1:4][~np.isnan(HOLES[0, 1:4, 1:4])].max()),
        (HOLES * np.nan, -3.40282e38),
    ]:
        pooled = trace_bin(values, BOX, 2, op="roi_pool")
        assert story(pooled, Moment(0, 0))[-1].startswith("Maximum of 1 of 9: ")
        assert story(pooled, Moment(0, 8))[-2:] == [
            f"Maximum of 9 of 9: {short(maximum, 6)}",
            f"Result, the maximum: {short(maximum, 6)}",
        ]
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
