"""Pictures of traces: colors and places are what the numbers mean, and odd cases draw."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roicli import trace_bin
from roicli.errors import OutputError, UsageError
from roicli.picture.canvas import Canvas, fitted, text_width
from roicli.picture.colors import BLANK, FIELD, HOLE, INK, ORANGE, PALETTE, WHITE, Scale
from roicli.picture.draw import Page, draw
from roicli.picture.figure import ALONE, BESIDE, bar_ticks, facts, legend
from roicli.picture.story import TIMES, short, story
from roicli.picture.view import map_view

SAMPLES = Path(__file__).parents[2] / "sample_data"
RNG = np.random.default_rng(3)
SMALL = RNG.standard_normal((2, 8, 10)).astype(np.float32)
MIDDLE = RNG.standard_normal((1, 50, 68)).astype(np.float32)
BIG = RNG.standard_normal((1, 200, 272)).astype(np.float32)
HOLES = np.where(np.arange(80).reshape(1, 8, 10) == 23, np.nan, SMALL[:1])
BOX = [1.2, 1.3, 6.4, 5.2]


def page_of(*traces, animated=False, **settings):
    return Page(traces, "", [""] * len(traces), 96, animated=animated, **settings)


class Drawn:
    """One frame of a picture of one trace, and where feature coordinates lie in it."""

    def __init__(self, trace, frame=None, point=None):
        self.page = page_of(trace, animated=frame is not None)
        self.view, self.scale = self.page.figures[0].view, self.page.figures[0].scale
        image = self.page.still(point) if frame is None else list(self.page.frames())[frame]
        self.pixels = np.asarray(image.convert("RGB")).astype(int)

    def around(self, y, x, reach):
        right, down = self.view.at(y, x)
        return self.pixels[int(down) - reach : int(down) + reach + 1, int(right) - reach : int(right) + reach + 1]

    def shows(self, y, x, color):
        """Whether a place has a color, as near as the palette has it."""
        return np.abs(self.around(y, x, 0)[0, 0] - color).max() <= 2

    def color(self, value):
        return self.scale.colors(np.array(value))


def tutorial(**settings):
    box = json.loads((SAMPLES / "tutorial.json").read_text())[0]
    return trace_bin(np.load(SAMPLES / "tutorial.npy"), box, 2, **settings)


def test_cells_have_the_colors_of_their_values():
    trace = trace_bin(SMALL, BOX, 2, channel=1, sampling_ratio=2)
    drawn = Drawn(trace)
    for y, x in [(0, 0), (7, 0), (7, 8), (3, 7), (6, 4)]:  # outside of the RoI, where nothing else is drawn
        assert drawn.shows(y, x, drawn.color(trace.plane[y, x]))
        assert drawn.shows(y - 0.45, x - 0.45, drawn.color(trace.plane[y, x]))  # a cell is centered on its number
    assert Drawn(trace_bin(SMALL, [-1, 1, 4, 4], 2)).shows(-1, -1, BLANK)


def test_the_color_map_spans_its_range():
    scale = Scale(-2, 6)
    assert [tuple(color) for color in scale.colors(np.array([-2, 2, 6])).tolist()] == [
        *((68, 1, 84), (33, 144, 141), (253, 231, 37)),
    ]
    luminance = scale.colors(np.linspace(-2, 6, 50)) @ [0.299, 0.587, 0.114]
    assert (np.diff(luminance) > 0).all()  # reads in grey, too
    largest = np.finfo(np.float64).max
    assert Scale(-largest, largest).colors(np.array(0.0)).tolist() == [33, 144, 141]
    assert scale.colors(np.array([np.nan, np.inf])).tolist() == [list(HOLE)] * 2
    assert PALETTE.shape == (256, 3)


@pytest.mark.parametrize("aligned", [False, True])
def test_samples_lie_where_their_coordinates_say(aligned):
    trace = tutorial(aligned=aligned)
    drawn = Drawn(trace, point=3)
    for y, x in zip(trace.y, trace.x, strict=True):
        assert drawn.shows(y, x, ORANGE)
    for y in trace.sample_rows[1]:
        for x in trace.sample_columns.ravel():
            assert drawn.shows(y, x, WHITE)  # samples of other bins
    between = (trace.y[3] + trace.rows[3, 0]) / 2, (trace.x[3] + trace.columns[3, 1]) / 2
    assert drawn.shows(*between, ORANGE)  # the line to a neighbor


def test_aligned_shifts_the_roi_by_half_a_cell():
    box = [1.5, 1.5, 5.5, 5.5]
    for aligned, left in [(False, 1.5), (True, 1.0)]:
        drawn = Drawn(trace_bin(SMALL, box, 1, aligned=aligned, sampling_ratio=1))
        assert drawn.shows(left + 1, left, ORANGE)
        assert not drawn.shows(left + 1, 2.5 - left, ORANGE)


@pytest.mark.parametrize(
    ("features", "box", "rows", "columns"),
    [
        (SMALL, [1, 1, 9, 7], (0, 8), (0, 10)),  # a small map is whole
        (SMALL, [-1, 1, 9, 7], (-1, 9), (-1, 11)),  # a RoI that leaves it: an even margin
        (BIG, [100, 50, 190, 110], (34, 127), (93, 199)),  # two cells around the RoI, and more where there is room
        (MIDDLE, [10, 8, 20, 30], (6, 34), (0, 32)),  # no margin beyond the edge of the map
        (MIDDLE, [80, 3, 90, 9], (0, 22), (66, 91)),  # two cells of the map, at least
        (MIDDLE, [-1e4, 3, 12, 9], (0, 43), (-34, 15)),  # half the map's width, at most
        (MIDDLE, [200, 3, 210, 9], (-68, 118), (-1, 212)),  # too far for that: the map and the RoI
        (MIDDLE, [200, -1e5, 210, -9e4], (-1, 51), (-1, 69)),  # too far for that: the map
        (np.zeros((1, 3, 3000)), [1000, 0, 1050, 2], (0, 3), (997, 1055)),
        (np.zeros((1, 3, 3000)), [0, 0, 2999, 2], (0, 3), (1340, 1660)),  # cells of two pixels, around the bin
    ],
)
def test_crops(features, box, rows, columns):
    view = map_view([trace_bin(features, box, (1, 1), sampling_ratio=1)], ALONE.map)
    assert (view.rows, view.columns) == (rows, columns)
    left, top, right, bottom = view.frame
    assert left == ALONE.map[0]
    assert top == ALONE.map[1]
    assert right <= ALONE.map[2] + 1e-6
    assert bottom <= ALONE.map[3] + 1e-6


def test_a_roi_far_off_is_no_noise():
    trace = trace_bin(MIDDLE, [200, 20, 240, 60], 7, bin=(3, 3))
    drawn = Drawn(trace)
    left, top = (int(edge) + 2 for edge in drawn.view.at(0, 0)[::1])
    right, bottom = (int(edge) - 2 for edge in drawn.view.at(49, 67))
    seen = drawn.pixels[top:bottom, left:right]
    assert ((np.abs(seen - FIELD).max(axis=2) <= 2) | (seen.sum(axis=2) < sum(FIELD))).all()  # but for its name
    assert drawn.shows(39, 218.6, BLANK)  # no samples, which would cover the bin
    assert facts(trace, 1)[1] == "132.5 columns to the right of the map"


def test_a_bin_of_1e30_cells_ends_where_it_does():
    drawn = Drawn(trace_bin(MIDDLE, [-1e30, -1e30, 1e30, 1e30], 2, sampling_ratio=2))
    assert drawn.shows(-20, 0, ORANGE)
    assert drawn.shows(0, -20, ORANGE)
    page = drawn.pixels[:, : int(drawn.view.frame[0]) - 30]
    assert (page[120:] == 255).all()  # nothing is drawn beyond the panel


def test_several_traces_share_crop_and_colors_side_by_side():
    box = [5, 6, 20, 25]
    traces = [trace_bin(MIDDLE, box, 3, **more) for more in ({"aligned": True}, {"op": "roi_pool"}, {})]
    assert map_view(traces, BESIDE.map) == map_view(traces[::-1], BESIDE.map)
    page = page_of(*traces[:2])
    first, second = page.figures
    assert first.scale == second.scale
    assert (first.view.rows, first.view.columns, first.view.top) == (
        second.view.rows,
        second.view.columns,
        second.view.top,
    )
    assert second.view.left > first.view.frame[2]
    width, height = page.still(None).size
    assert width > height
    assert page_of(*traces).still(None).size == (width + 588, height)
    less = traces[1].result - traces[0].result
    assert story(traces[1], 0, traces[1].count - 1, traces[0])[-1] == ("less the first", short(less, 6))


@pytest.mark.parametrize(
    ("features", "box", "size", "settings"),
    [
        pytest.param(np.ones((1, 1, 1)), [0, 0, 1, 1], 2, {"aligned": True}, id="1 x 1"),
        pytest.param(BIG, [-4000, -10, 4000, 205], 7, {"sampling_ratio": 2}, id="8000 cells wide"),
        pytest.param(MIDDLE, [-1e5, -1e5, 1e5, 1e5], 7, {"sampling_ratio": 300}, id="4 million samples"),
        pytest.param(MIDDLE, [3, 4, 40, 40], (300, 200), {"sampling_ratio": 2, "bin": (150, 9)}, id="300 x 200"),
        pytest.param(BIG, [100.1, 50.2, 100.6, 50.6], 7, {"aligned": True}, id="smaller than a cell"),
        pytest.param(SMALL * np.nan, BOX, 2, {}, id="all nan"),
        pytest.param(HOLES, BOX, 2, {"mode": "max"}, id="nan"),
        pytest.param(SMALL * 1e-8, BOX, 2, {}, id="1e-8"),
        pytest.param(SMALL * 1e38, BOX, 2, {}, id="1e38"),
        pytest.param(np.sign(SMALL) * np.inf, BOX, 2, {"mode": "max"}, id="infinite"),
        pytest.param(SMALL.astype(np.float16), BOX, 2, {}, id="float16"),
        pytest.param(np.arange(80).reshape(1, 8, 10), BOX, 2, {}, id="integers"),
        pytest.param(MIDDLE, [10, 10, 10, 12], 2, {"aligned": True}, id="no samples"),
        pytest.param(MIDDLE, [30, 30, 10, 12], 3, {"aligned": True, "sampling_ratio": 2}, id="inverted"),
        pytest.param(MIDDLE, [200, 10, 210, 20], 2, {"op": "roi_pool"}, id="no cells"),
        pytest.param(MIDDLE, [-1e9, -1e9, 1e9, 1e9], 7, {"op": "roi_pool"}, id="1e9 cells"),
        pytest.param(MIDDLE, [1e9, 1e9, 2e9, 2e9], 7, {"op": "roi_pool"}, id="cells far away"),
        pytest.param(SMALL * np.nan, BOX, 2, {"op": "roi_pool"}, id="cells all nan"),
        pytest.param(SMALL, [3, 3, 3, 3], 2, {"aligned": True, "sampling_ratio": 2}, id="no extent"),
    ],
)
def test_odd_cases_draw(features, box, size, settings):
    image = page_of(trace_bin(features, box, size, **settings)).still(None)
    assert image.size == (1140, 742)
    edges = np.asarray(image.convert("RGB"))
    for margin in (edges[:20], edges[-20:], edges[:, :20], edges[:, -20:]):
        assert (margin == 255).all()  # even on all four sides


def test_values_stand_at_one_height_where_samples_cover_least():
    low = trace_bin(SMALL, [2.5, 1.9, 3.5, 2.9], 1, sampling_ratio=1)  # the sample lies in the lower part of a cell
    high = trace_bin(SMALL, [2.5, 1.1, 3.5, 2.1], 1, sampling_ratio=1)
    for trace, better in ((low, -1), (high, 1)):
        panel = page_of(trace).figures[0].map
        assert panel.harm(better) == 0 < panel.harm(-better)


def test_weights_stand_beside_their_neighbors_within_the_panel(monkeypatch):
    written = []
    monkeypatch.setattr(Canvas, "text", lambda _, *words, anchor="", **__: written.append((*words[:3], anchor)))
    for features, box, sides in ((SMALL, [4, 4, 5, 5], ["rm", "lm"] * 2), (SMALL[:, :, :9], [0, 4, 1, 5], ["lm"] * 4)):
        trace = trace_bin(features, box, 1, sampling_ratio=1)
        page = page_of(trace, trace)
        written.clear()
        page.figures[0].map.draw_point(Canvas(1200, 900), 0)
        assert [words for _, _, words, _ in written] == [f"{TIMES} 0.25"] * 4
        assert [anchor for *_, anchor in written] == sides
        assert all(x > page.figures[0].view.left for x, *_ in written)


@pytest.mark.parametrize("op", ["roi_align", "roi_pool"])
def test_samples_not_reached_yet_are_hollow(op):
    trace = trace_bin(SMALL, BOX, 2, op=op)
    begins, ends = Drawn(trace, frame=0), Drawn(trace, frame=-1)
    for number, (y, x) in enumerate(zip(trace.y, trace.x, strict=True)):
        assert begins.shows(y, x, ORANGE if number == 0 else WHITE)
        assert ends.shows(y, x, ORANGE)


def names(trace, **settings):
    page = page_of(trace, **settings)
    return [words for _, words in legend(page.figures, page.animated)]


def test_the_legend_names_what_is_shown():
    trace = trace_bin(SMALL, BOX, 2, mode="max")
    assert names(trace) == ["sample of the traced bin", "maximum", "sample of another bin"]
    assert names(trace, animated=True) == [
        *("sample of the traced bin", "not reached yet", "maximum", "sample of another bin"),
    ]
    assert names(trace_bin(SMALL[:1] * np.nan, BOX, 2, op="roi_pool")) == ["cell of the traced bin", "NaN or infinite"]
    border = trace_bin(SMALL, [-1.6, 1, 3.4, 7.4], 2, aligned=True, sampling_ratio=3)
    assert names(border)[1:3] == ["out of range: counts as 0", "read at the border"]


def test_few_samples_are_all_drawn_and_the_maximum_always():
    few = page_of(trace_bin(SMALL, [3.2, 3.2, 3.3, 3.3], 2, aligned=True, sampling_ratio=2)).figures[0].map
    assert (few.shown, few.one_in) == ([0, 1, 2, 3], 1)
    trace = trace_bin(BIG, [20, 20, 250, 190], 7, mode="max", bin=(3, 3))
    many = page_of(trace).figures[0]
    assert many.map.one_in == 16
    assert trace.best in many.map.shown
    assert facts(trace, many.map.one_in)[1] == "25 x 33 samples a bin, one in 16 drawn"


def test_a_long_heading_fits():
    heading = "RoIAlign aligned, adaptive: annotation 2, id 3 of boxes.json, " * 5
    assert fitted("short", 400, 20) == "short"
    short_one = fitted(heading, 400, 20)
    assert text_width(short_one, 20) <= 400
    assert short_one.startswith("RoIAlign")
    assert short_one.endswith("boxes.json, ")


def test_a_multiplication_sign_is_drawn():
    for words, dark in ((f"a {TIMES} b", True), ("a     b", False)):
        canvas = Canvas(100, 30)
        canvas.text(5, 20, words)
        image = np.asarray(canvas.finished()).astype(int)
        left = 5 + int(text_width("a ", 13)) + 1
        assert (image[:, left : left + 9].min() < 120) == dark
    assert INK < WHITE


def test_an_animation_holds_still_for_reading(tmp_path, monkeypatch):
    for most, frames in ((60, 6), (4, 4)):
        monkeypatch.setattr("roicli.picture.draw.MOST_FRAMES", most)
        draw([tutorial()], tmp_path / "a.gif")
        with Image.open(tmp_path / "a.gif") as image:
            assert image.n_frames == frames
            seen = []
            for frame in range(frames):
                image.seek(frame)
                assert image.info["duration"] == (1500 if frame < frames - 1 else 4000)
                seen.append(np.asarray(image.convert("RGB")))
    words = [pixels[650:, :700] for pixels in seen]  # the legend, and the axis above it
    assert all((part == words[0]).all() for part in words)


def test_the_story_adds_up():
    trace = tutorial()
    assert story(trace, 1, 1) == [
        ("Sample 0,1", ""),
        (f"y 0.7409 = 0.3002 + (0 + 0.5) {TIMES} 2.6444 / 3", ""),
        (f"x 3.1512 = 2.2821 + (1 + 0.5) {TIMES} 1.1587 / 2", ""),
        (f"0.2199 {TIMES} 0.012735", "row 0, column 3"),
        (f"0.0392 {TIMES} 0.07388", "row 0, column 4"),
        (f"0.6289 {TIMES} 0", "row 1, column 3"),
        (f"0.1120 {TIMES} 0", "row 1, column 4"),
        ("= 0.0056952", ""),
        ("Sum of 2 of 6", "0.0298437"),
        ("Mean", ""),
    ]
    assert story(trace, 0, 5)[-2:] == [("Sum of 6 of 6", "0.0298437"), ("Mean", "0.00497395")]
    opposed = trace_bin(np.where(np.arange(10) < 5, np.inf, -np.inf) * np.ones((1, 8, 1)), BOX, 1)
    assert story(opposed, 0, opposed.count - 1)[-1] == ("Mean", "nan")
    for values, maximum in [
        (HOLES, HOLES[0, 1:4, 1:4][~np.isnan(HOLES[0, 1:4, 1:4])].max()),
        (HOLES * np.nan, -3.40282e38),
    ]:
        pooled = trace_bin(values, BOX, 2, op="roi_pool")
        assert story(pooled, 0, 0)[-2][0] == "Maximum of 1 of 9"
        assert story(pooled, 0, 8)[-2:] == [("Maximum of 9 of 9", short(maximum, 6)), ("Maximum", short(maximum, 6))]
    outside = story(trace_bin(SMALL, [-9, -9, -5, -5], 1, sampling_ratio=1), 0, 0)
    assert outside[3] == ("out of range: counts as 0", "")
    assert len(outside) == len(story(trace, 0, 0)), "words of an animation do not move"


def test_ticks_differ_and_are_round():
    assert bar_ticks(Scale(1e8, 1e8 + 1), 120) == ["100000000", "100000001"]
    assert bar_ticks(Scale(-0.5, 0.4999999), 300)[2] == "0"
    assert bar_ticks(Scale(3, 3), 300) == ["3"]
    assert bar_ticks(Scale(np.nan, np.nan), 300) == []


def test_what_cannot_be_drawn(tmp_path):
    trace = tutorial()
    for point in (-1, 6):
        with pytest.raises(UsageError, match=rf"point {point} is not among the 6 samples of this bin\nGive 0 to 5\."):
            draw([trace], tmp_path / "a.png", point=point)
    other = tutorial(sampling_ratio=1)
    draw([trace, other], tmp_path / "a.png", point=5)  # the last one of a trace that has fewer
    with pytest.raises(UsageError, match="point 5 is not among the 1 sample of"):
        draw([other, trace], tmp_path / "b.png", point=5)
    with pytest.raises(UsageError, match=r"ends in \.png or \.gif\nGive `picture=.*a\.png`\."):
        draw([trace], tmp_path / "a.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_failures_leave_nothing(tmp_path, monkeypatch):
    path = tmp_path / ("a" * 251 + ".png")
    draw([tutorial()], path)  # as long as a name can be
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OutputError, match="cannot write: No such file or directory"):
        draw([tutorial()], tmp_path / "missing" / "a.png")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="No space left"):
        draw([tutorial()], path)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]
