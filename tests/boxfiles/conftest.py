"""What tests of box files share."""

import pytest

from roicli.boxfiles import read_regions


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Write a file into an empty folder and read it by its bare name."""
    monkeypatch.chdir(tmp_path)

    def write_and_read(name, content, box_format=None):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        table = read_regions(path.relative_to(tmp_path), box_format)
        return table, table.notes

    return write_and_read
