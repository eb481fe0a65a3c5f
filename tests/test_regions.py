"""Regions keep all that a file says of its boxes, and a column of text takes no more memory than its names."""

import numpy as np
import pytest

from roicli.regions import BoxFormat, Names, Regions, to_xyxy


def regions(**more):
    given = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 9, 1, 1]])
    known = {"given": given, "boxes": to_xyxy(given, BoxFormat.XYWH), "rows": np.array([2, 3, 5]), "source": "b.csv"}
    return Regions(box_format=BoxFormat.XYWH, **(known | more))


def test_a_selection_keeps_every_column():
    whole = regions(
        row_word="line",
        image_index=np.array([1, 0, 1]),
        image_ids=("a", "b"),
        columns={"score": np.array([0.5, 0.25, 1]), "label": Names(np.array([0, 1, 0]), ("cat", "dog"))},
    )
    some = whole.take(np.array([2, 0]))
    assert some.given.tolist() == [[9, 9, 1, 1], [1, 2, 3, 4]]
    assert some.boxes.tolist() == [[9, 9, 10, 10], [1, 2, 4, 6]]
    assert {name: column.tolist() for name, column in some.columns.items()} == {
        "score": [1, 0.5],
        "label": ["cat", "cat"],
    }
    assert (some.rows.tolist(), some.image_index.tolist(), some.absent.tolist()) == ([5, 2], [1, 1], [False, False])
    assert some.image_ids == ("a", "b")
    assert whole.where(np.array([2])) == "line 5"
    assert whole.where(np.array([0, 1, 2]), limit=2) == "lines 2, 3 and 1 more"


@pytest.mark.parametrize(
    "wrong",
    [{"given": np.zeros((2, 4))}, {"boxes": np.zeros((3, 5))}, {"columns": {"score": np.zeros(2)}}],
)
def test_columns_must_fit(wrong):
    with pytest.raises(ValueError, match="boxes"):
        regions(**wrong)


def test_names_tell_their_texts_apart():
    column = Names(np.array([0, 1]), ("a", "bc"))
    assert column.tobytes() != Names(np.array([0, 1]), ("ab", "c")).tobytes()
    assert column.tobytes() == Names(np.array([1, 0]), ("bc", "a")).tobytes()
