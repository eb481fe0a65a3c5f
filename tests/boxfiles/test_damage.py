"""Any boxes come back as they were written; any damage is an error of ours."""

import numpy as np
from boxfiles.boxwriting import XYXY, ann, coco, documents, npy, numbers
from hypothesis import given, settings
from hypothesis import strategies as st

from roicli.boxfiles import read_regions
from roicli.errors import RoicliError

rows_of_boxes = st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=6)


image_names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=5)


@settings(max_examples=40)
@given(boxes=rows_of_boxes, data=st.data())
def test_round_trip(tmp_path_factory, boxes, data):
    names = [data.draw(image_names) for _ in boxes]
    folder = tmp_path_factory.getbasetemp()
    for name, content, named in documents(boxes, names):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        table = read_regions(folder / name, XYXY)
        assert table.boxes.tolist() == [list(box) for box in boxes]
        if named:
            assert [table.image_ids[index] for index in table.image_index] == names


VALID = [
    *documents([(1.5, 2.0, 30.0, 4.25), (0.0, 0.0, 1e3, 7.0)], ["a", "7"]),
    ("b.json", '{"a": [[1, 2, 3, 4]], "b": [[1, 2, 3, 4], [5, 6, 7, 8]]}', True),
    ("b.json", coco(ann(1, id=1), ann(2, id=2), images=[{"id": 1, "file_name": "1.jpg"}]), True),
    ("b.npy", npy(np.ones((2, 5), "f4")), False),
]


FRAGMENTS = [b"", b"\0", b"\xff", b'"', b"\n", b"\r", b",", b"[", b"]", b"{", b"}", b"-", b"9" * 30, b"1e999", b"NaN"]


@given(data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path_factory, data):
    name, content, _ = data.draw(st.sampled_from(VALID))
    content = content if isinstance(content, bytes) else content.encode()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = min(len(content), start + data.draw(st.integers(0, 4)))
        piece = data.draw(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=3)))
        content = content[:start] + piece + content[end:]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    try:
        table = read_regions(path)
        outcome = f"{path}: {len(table.rows)} rows"
        assert table.boxes.shape == (len(table.rows), 4)
    except RoicliError as error:
        outcome = error.message
    assert outcome.startswith(str(path))
