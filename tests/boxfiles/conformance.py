"""What every layout of box files must do: subclass `LayoutConformance` in a test file and give an example."""

import json
from dataclasses import fields
from typing import ClassVar

import numpy as np
import pytest

from roicli.boxfiles import kept, layout_names, read_regions, registry
from roicli.boxfiles.boxfile import opened
from roicli.boxfiles.registry import choose
from roicli.errors import ChangedInputError, RoicliError
from roicli.files import Stamp
from roicli.regions import BoxFormat, Regions


class LayoutConformance:
    """Tests of one layout; a subclass sets the attributes.

    Attributes
    ----------
    name : str
        Of the layout, as `boxes_as` takes it.
    file_name : str
        By custom.
    content : bytes or str
        An example of two boxes or more.
    boxes : list of list of float
        Those boxes as xyxy, when read without options.
    images : list of str, or None
        The image id of each; None if the layout does not name images.
    columns : dict of str to list
        Other columns that are read.
    sizes : list of list of float, or None
        Height and width of each image.
    normalized : bool
        Whether the boxes are in 0..1 of the image.
    beside : dict of str to str
        Contents of other files that are read, by name.
    options : dict
        What `read_regions` needs beside the path.
    """

    name: str
    file_name: str
    content: bytes | str
    boxes: list[list[float]]
    images: list[str] | None = None
    columns: ClassVar = {}
    sizes: list[list[float]] | None = None
    normalized = False
    beside: ClassVar = {}
    options: ClassVar = {}

    @pytest.fixture(autouse=True)
    def write_beside(self, tmp_path):
        for name, content in self.beside.items():
            (tmp_path / name).write_text(content)

    @pytest.fixture
    def path(self, tmp_path):
        return self.write(tmp_path / self.file_name)

    def write(self, path, content=None):
        content = self.content if content is None else content
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def test_is_recognized_by_its_content(self, path, tmp_path):
        for file in (path, self.write(tmp_path / "boxes"), self.write(tmp_path / "boxes.dat")):
            with opened(file) as box_file:
                assert choose(box_file).name == self.name

    def test_is_read(self, path):
        stamp = Stamp.of(path)
        for more in ({}, {"boxes_as": self.name}):
            regions = read_regions(path, **self.options, **more)
            np.testing.assert_allclose(regions.boxes, self.boxes, rtol=1e-12, atol=1e-12)
            assert (regions.source, regions.stamps[str(path)]) == (str(path), stamp)
            assert len(regions.stamps) == 1 + len(self.beside)
            assert regions.normalized == self.normalized
            assert regions.layout
            assert np.isfinite(regions.given).all()
            assert len(set(regions.rows.tolist())) == len(self.boxes)
            if self.images is not None:
                assert [regions.image_ids[index] for index in regions.image_index] == self.images
            for name, values in self.columns.items():
                assert regions.columns[name].tolist() == (
                    values if isinstance(values[0], str) else pytest.approx(values, nan_ok=True)
                )
            known = regions.image_sizes is not None and not np.isnan(regions.image_sizes).all()
            assert (regions.image_sizes.tolist() if known else None) == self.sizes

    def test_nothing_else_recognizes_it(self, path):
        """All files against all layouts: each test class is a row of that matrix."""
        with opened(path) as file:
            layouts = [registry.load(name) for name in layout_names()]
            assert [one.name for one in layouts if one.form == file.form and one.recognizes(file)] == [self.name]

    def test_the_user_decides_what_numbers_mean(self, path):
        regions = read_regions(path, BoxFormat.XYXY, **self.options)
        np.testing.assert_array_equal(regions.boxes, regions.given)

    def test_a_file_that_is_cut_is_read_or_refused(self, tmp_path):
        content = self.content if isinstance(self.content, bytes) else self.content.encode()
        for end in range(0, len(content), max(1, len(content) // 50)):
            path = self.write(tmp_path / self.file_name, content[:end])
            try:
                outcome = f"{path}: {len(read_regions(path, **self.options))} boxes"
            except RoicliError as error:
                outcome = error.message
            assert str(path) in outcome

    def test_a_table_beside_it_holds_the_same(self, path, monkeypatch):
        """What parts of a job find there; `.npy` files are mapped themselves."""
        monkeypatch.setattr(kept, "_LONG", 0)
        first, second = (read_regions(path, **self.options, mapped=True) for _ in range(2))
        taken = any("are taken from" in note for note in second.notes)
        assert taken == (path.suffix != ".npy")
        assert second.notes[: len(second.notes) - taken] == read_regions(path, **self.options).notes
        for name in {one.name for one in fields(Regions)} - {"notes", "columns"}:
            np.testing.assert_equal(getattr(second, name), getattr(first, name))
        columns = [{name: column.tolist() for name, column in one.columns.items()} for one in (first, second)]
        np.testing.assert_equal(*columns)

    def test_a_file_that_changes_is_refused(self, path):
        def read_and_replace():
            with opened(path, **self.options) as file:
                choose(file).read(file, None)
                self.write(path.with_name("new")).replace(path)

        with pytest.raises(ChangedInputError, match="changed while it was read"):
            read_and_replace()

    def test_is_listed(self):
        assert self.name in layout_names()
        assert json.dumps(self.name).islower()
