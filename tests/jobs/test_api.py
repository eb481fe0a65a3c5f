"""The functions for files: they are the commands, with the same names and defaults, for Python callers."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from driving import run

import roicli
from roicli.cli.main import main

BOXES = "[[0, 0, 16, 16], [4, 8, 40, 60], [300, 300, 400, 400]]"


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "map.npy", np.random.default_rng(1).standard_normal((3, 16, 20)).astype(np.float32))
    (tmp_path / "boxes.json").write_text(BOXES)
    return tmp_path


def options_of(command):
    """Parameters of a command and their values by default, without those for a terminal."""
    arguments = ["map.npy", "boxes.json", *(["-o", "out.npy"] if command == "align" else [])]
    params = main.get_command(None, command).make_context(command, arguments).params
    return {name: value for name, value in params.items() if name not in ("quiet", "as_json", "strict")}


@pytest.mark.parametrize(("command", "function"), [("align", roicli.align), ("check", roicli.check)])
def test_names_and_defaults_are_those_of_the_command(command, function):
    options, parameters = options_of(command), inspect.signature(function).parameters
    assert set(options) == set(parameters)
    size = options.pop("size")
    assert size == (parameters["size"].default,) * 2
    for name, value in options.items():
        default = parameters[name].default
        if default is inspect.Parameter.empty:
            assert name in ("features", "boxes", "output")
        else:
            value = value.replace("-", "_") if isinstance(value, str) else value
            assert (name, value or None) == (name, default or None)
            assert type(value) is type(default) or value in (None, False)


def test_align_writes_what_the_command_writes(folder, capfd):
    report = roicli.align(
        folder / "map.npy", str(folder / "boxes.json"), folder / "a.npy", size=(3, 2), aligned=True, spatial_scale=1 / 4
    )
    assert capfd.readouterr() == ("", "")
    assert report.shape == (3, 3, 3, 2)
    assert "outside their maps: 1 of 3" in report.notes[-1]
    options = ("--size", "3x2", "--aligned", "--spatial-scale", "1/4", "--quiet")
    run(folder, "align", "map.npy", "boxes.json", "-o", "b.npy", *options)
    assert (folder / "a.npy").read_bytes() == (folder / "b.npy").read_bytes()


def test_errors_are_exceptions_that_name_parameters(folder):
    roicli.align(folder / "map.npy", folder / "boxes.json", folder / "out.npy")
    with pytest.raises(OSError, match="exists") as refused:
        roicli.align(folder / "map.npy", folder / "boxes.json", folder / "out.npy")
    assert isinstance(refused.value, roicli.RoicliError)
    for settings, words in [
        ({"size": "big"}, "size"),
        ({"box_format": "yxyx"}, "box_format"),
        ({"op": "roi_mean"}, "op"),
        ({"layout": "wch"}, "layout"),
        ({"bad_boxes": "drop"}, "bad_boxes must be one of 'error', 'skip'"),
    ]:
        with pytest.raises(ValueError, match=words):
            roicli.check(folder / "map.npy", folder / "boxes.json", **settings)


def test_an_option_of_another_command_is_named(folder):
    with pytest.raises(TypeError, match=r"^got an unexpected keyword argument 'overwrite'"):
        roicli.check(folder / "map.npy", folder / "boxes.json", overwrite=True)


def test_check(folder, capfd):
    report = roicli.check(folder / "map.npy", folder / "boxes.json", spatial_scale=1 / 4)
    assert capfd.readouterr() == ("", "")
    assert (report.shape, report.wholly_outside) == ((3, 3, 7, 7), 1)


def test_features_and_regions(folder):
    source = roicli.open_features(folder / "map.npy")
    assert source.ids == ("map",)
    np.testing.assert_array_equal(source.read(0), np.load(folder / "map.npy"))
    regions = roicli.read_regions(folder / "boxes.json", box_format="xywh")
    assert regions.boxes.tolist()[1] == [4, 8, 44, 68]


SCRIPT = """
import numpy as np, threading
import roicli

def pool():
    return roicli.align("maps.npy", "many.npy", "out.npy", size=2, workers=2, overwrite=True)

{guard}
"""
NOTEBOOK = """
import code, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()  # as the kernel of a notebook has
shell = code.InteractiveConsole({"__name__": "__main__"})
shell.push("import roicli")
shell.push("print(roicli.align('maps.npy', 'many.npy', 'out.npy', size=2, workers=2, overwrite=True).strategy)")
"""


@pytest.mark.parametrize(
    "script",
    [
        SCRIPT.format(guard='if __name__ == "__main__":\n    print(pool().strategy)'),
        "import threading\nif __name__ == '__main__':\n    "
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        + SCRIPT.format(guard='if __name__ == "__main__":\n    print(pool().strategy)'),
        NOTEBOOK,
    ],
    ids=["script", "script with threads", "notebook"],
)
def test_workers_start_in_scripts_and_notebooks(tmp_path, script):
    """Jobs large enough for processes; a notebook's code comes from no file, and its kernel has threads."""
    np.save(tmp_path / "maps.npy", np.ones((64, 32, 64, 64), np.float32))
    boxes = np.tile([0, 0.0, 0, 64, 64], (6400, 1))
    boxes[:, 0] = np.arange(6400) % 64
    np.save(tmp_path / "many.npy", boxes)
    start = ["-c", script] if script is NOTEBOOK else ["script.py"]
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, *start], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("processes\n", "")
    assert np.load(tmp_path / "out.npy").mean() == 1
