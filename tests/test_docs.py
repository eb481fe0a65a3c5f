"""What the documents say, done: every command and every example of README and guide, and all docstrings."""

import base64
import csv
import doctest
import importlib
import json
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import click
import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import roicli
from roicli import conventions
from roicli.boxfiles import registry
from roicli.cli.help import TOPICS
from roicli.cli.main import main
from roicli.outputs import LAYOUTS, find_format, suffixes
from roicli.pooling import operators
from roicli.pooling.arguments import make_spec
from roicli.pooling.placement import place
from roicli.pooling.trace import trace_placed
from roicli.sources import open as sources

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDE = ROOT / "roicli" / "guide"
PAGES = [README, *sorted(GUIDE.glob("*.md"))]
TEXTS = {page: page.read_text() for page in PAGES}
SET_UP = "python3 -m venv .venv && .venv/bin/pip install --quiet "
FIGURES = re.compile(r"in \d.*?\)")  # of speed
TASKS = 10  # of the array that the guide submits
SMALL = (13.0, 2.0, 13.8, 3.0)  # a box below a cell that reaches beyond the tutorial's map at half its scale


def blocks(page):
    """Code blocks of a page: language, text."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", TEXTS[page], re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What a clone has for the commands of the documents; the current folder."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def do(command, **environment):
    """Do what a line says; return what it prints. Only `roicli` is run, in this process."""
    words = shlex.split(command.removeprefix(f"{SET_UP}. && .venv/bin/"))
    if words[:2] == [".", ".venv/bin/activate"] or "pytest" in command:
        return ""
    assert words[0] == "roicli", command
    done = CliRunner(env=environment).invoke(main, words[1:], prog_name="roicli")
    assert done.exit_code == 0, (command, done.output)
    for flag in {"-o", "--index", "--picture"} & set(words) if words[1] != "sbatch" else ():  # which prints
        assert Path(words[words.index(flag) + 1]).stat().st_size > 0
    return done.output


def do_script(script):
    """Do what a batch script says: once, or as each task of its array."""
    script = re.sub(r"^#.*\n", "", script.replace("\\\n", " "), flags=re.MULTILINE)
    variables = {"COUNT": TASKS, "MIN": 1, "MAX": TASKS, "STEP": 1}
    for task in range(1, TASKS + 1 if "${" in script else 2):
        environment = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in (variables | {"ID": task}).items()}
        for line in script.splitlines():
            do(line.replace("${SLURM_ARRAY_TASK_ID}", str(task)), **environment)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands(page, folder):
    """One after another, as a reader does them; a text below a command is how its output begins."""
    for (kind, text), (kind_below, below) in pairwise([*blocks(page), ("", "")]):
        printed = [do(line) for line in text.splitlines()] if kind == "sh" else []
        if (kind, kind_below) == ("sh", "text"):
            expected = [FIGURES.sub("", line) for line in below.splitlines()]
            assert [FIGURES.sub("", line) for line in printed[-1].splitlines()][: len(expected)] == expected


def test_an_array_of_tasks_gives_what_one_run_writes(folder):
    for _, script in [block for block in blocks(GUIDE / "cluster.md") if block[0] == "bash"]:
        do_script(script)
    do("roicli align sample_data/feats.h5 sample_data/boxes.json -o whole.h5 --size 7 --aligned --spatial-scale 1/16")
    assert Path("pooled-whole.h5").read_bytes() == Path("whole.h5").read_bytes()


def test_python_of_the_readme(folder):
    [at] = [i for i, (kind, _) in enumerate(blocks(README)) if kind == "python"]
    Path("script.py").write_text(blocks(README)[at][1])
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=True)
    assert done.stdout == blocks(README)[at + 1][1]


def test_set_up_commands_of_the_readme():
    """CI runs these two lines as they are, more than once."""
    first, second = (line for line in TEXTS[README].splitlines() if line.startswith(SET_UP))
    assert "roicli align sample_data/" in first
    assert first.endswith(" --overwrite")
    assert second.endswith(".venv/bin/pytest --quiet")


def test_the_readme_is_short():
    assert len(TEXTS[README].splitlines()) <= 140


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", TEXTS[page]):
            assert (page.parent / target).exists(), (page, target)


def test_the_guide_has_its_topics():
    assert {page.stem for page in PAGES[1:]} == set(TOPICS)
    assert all(f"roicli/guide/{topic}.md" in TEXTS[README] for topic in TOPICS)


def test_every_command_and_option_is_documented():
    everything = "\n".join(TEXTS.values())
    for name in main.list_commands(None):
        command = main.get_command(None, name)
        assert f"roicli {name}" in TEXTS[README]
        assert "Examples:" in command.help
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, option.name
                assert option.help[0] != "[", f"--{option.name} says its default, and not what it is"
                assert name == "trace" or any(flag in everything for flag in option.opts), option.opts
        # Words of click for a value whose name nobody has given.
        assert not {"INTEGER", "TEXT", "FLOAT"} & set(command.get_help(click.Context(command)).split())


def table(header, rows):
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]]) + "\n"


def names(suffixes):
    return ", ".join(f"`{suffix}`" for suffix in suffixes)


def loaded(entry):
    """What an entry of a registry stands for."""
    module, _, name = entry.partition(":") if isinstance(entry, str) else (None, None, None)
    return getattr(importlib.import_module(module), name) if module else entry


def features():
    by_class = {}
    for suffix, entry in sources._FORMATS.items():
        by_class.setdefault(loaded(entry), []).append(suffix)
    return table(
        ("file", "holds"),
        [("a folder" if found == [sources.FOLDER] else names(found), one.holds) for one, found in by_class.items()],
    )


def boxes():
    layouts = map(registry.load, registry.layout_names())
    return table(
        ("`--boxes-as`", "files", "content"), [(f"`{a.name}`", a.files or names(a.suffixes), a.holds) for a in layouts]
    )


def outputs():
    by_class = {}
    for suffix in suffixes():
        by_class.setdefault(type(find_format(Path(f"out{suffix}"))), []).append(suffix)
    return table(("file", "holds"), [(names(found), one.holds) for one, found in by_class.items()])


def layouts():
    found = [(name, loaded(entry)) for name, entry in LAYOUTS.items()]
    return table(
        ("`--output-layout`", "file", "holds"),
        [(f"`{name}`", f"`{one.suffixes[0]}`" if one.suffixes[0] else "a folder", one.holds) for name, one in found],
    )


def operator_table():
    found = map(operators.find, operators.names())
    return table(("`--op`", "operator", "a bin is"), [(f"`{a.name.replace('_', '-')}`", a.title, a.bin) for a in found])


def worked(settings, box, ratio):
    """Where a convention puts a box of the tutorial along x, its samples there, and two bins side by side."""
    spec = make_spec(2, **{"op": "roi_align", "sampling_ratio": ratio} | settings)
    cells, placed = np.load(ROOT / "sample_data" / "tutorial.npy"), place(np.zeros(1, np.intp), np.array([box]), 0.5)
    traces = [trace_placed(cells, placed, spec, (0, x), 0) for x in (0, 1)]
    left, _, right, _ = traces[0].roi
    at = " ".join(f"{x:.4g}" for trace in traces for x in np.unique(trace.x)) or "none"
    values = " ".join(f"{trace.engine_value:.4f}" for trace in traces)
    return f"bins {left:.4g} to {right:.4g}, {traces[0].operator.noun}s {at}: {values}"


def convention_blocks():
    """A block for all that compute the same: who they are, their formulas, and two boxes worked out."""
    kinds = {}
    for one in conventions.ALL.values():
        kinds.setdefault((one.start, one.end, one.least, one.samples, one.edge, one.bin), []).append(one)
    [box], lines = json.loads((ROOT / "sample_data" / "tutorial.json").read_text()), []
    for formulas, found in kinds.items():
        [settings] = {json.dumps(one.settings, default=repr): one.settings for one in found}.values()
        for one in found:
            lines += [f"{one.name:<28}{one.call}", f"    {one.source}"]
        names = "start", "end", "minimum", "samples", "edge", "mode", "example", "small"
        said = *formulas, worked(settings, box, -1 if "op" in settings else 2), worked(settings, SMALL, -1)
        lines += [f"  {name:<9}{words}" for name, words in zip(names, said, strict=True)] + [""]
    assert max(map(len, lines)) <= 78, max(lines, key=len)
    return "\n".join(["```", *lines[:-1], "```", ""])


def files():
    return table(
        ("", "files"),
        [
            ("feature maps", f"{names(sources.suffixes())}, a folder of `.npy` files, a quoted pattern"),
            (
                "boxes",
                f"{names(registry.SUFFIXES)}, a folder, a quoted pattern, `-`: {', '.join(registry.layout_names())}",
            ),
            ("outputs", names(suffixes())),
        ],
    )


@pytest.mark.parametrize(
    ("page", "name", "made"),
    [
        (GUIDE / "formats.md", "features", features),
        (GUIDE / "formats.md", "boxes", boxes),
        (GUIDE / "formats.md", "outputs", outputs),
        (GUIDE / "outputs.md", "layouts", layouts),
        (GUIDE / "operators.md", "operators", operator_table),
        (GUIDE / "conventions.md", "conventions", convention_blocks),
        (README, "files", files),
    ],
    ids=["features", "boxes", "outputs", "layouts", "operators", "conventions", "files"],
)
def test_tables_are_those_of_the_registries(page, name, made):
    [shown] = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", TEXTS[page], re.DOTALL)
    assert shown == made(), f"write this into {page.name}:\n{made()}"


MODULES = [found.name for found in pkgutil.walk_packages(roicli.__path__, "roicli.") if "__main__" not in found.name]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module):
    if module == "roicli.pooling.kernels.compiled":
        pytest.importorskip("numba")
    failed, _ = doctest.testmod(importlib.import_module(module), extraglobs={"np": np})
    assert failed == 0


def test_samples_are_what_their_script_makes(folder):
    made = folder / "sample_data"
    before = {
        path.name: path.read_bytes() for path in (ROOT / "sample_data").iterdir() if path.suffix not in (".h5", ".png")
    }
    for path in made.iterdir():
        if path.suffix not in (".py", ".png"):
            path.unlink()
    subprocess.run([sys.executable, made / "make_samples.py"], check=True)
    assert {path.name: path.read_bytes() for path in made.iterdir() if path.suffix not in (".h5", ".png")} == before
    with h5py.File(made / "feats.h5") as new, h5py.File(ROOT / "sample_data" / "feats.h5") as old:
        assert list(new) == list(old)
        for name in new:
            np.testing.assert_allclose(new[name][()], old[name][()], atol=1e-6)


def test_recipes_for_other_loaders(folder):
    """The guide's lines make what LXMERT, Oscar, MMF and updown-baseline read: each is read as its loader does."""
    page = GUIDE / "outputs.md"
    [recipe] = [text for kind, text in blocks(page) if kind == "python" and "LXMERT" in text]
    [commands] = [text for kind, text in blocks(page) if kind == "sh" and "-o regions.h5" in text]
    for command in commands.splitlines():
        do(command)
    exec(compile(recipe, str(page), "exec"), {})
    plain = {}
    for path in Path("regions").iterdir():
        with np.load(path) as arrays:
            plain[path.stem] = dict(arrays)
    fields = "img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features"
    lines = [*csv.DictReader(Path("lxmert.tsv").read_text().splitlines(), fields.split(), delimiter="\t")]
    places = [int(place) for place in Path("features.lineidx").read_text().split()]
    assert [line["img_id"] for line in lines] == sorted(plain)
    assert len(places) == len(plain)
    for line, start in zip(lines, places, strict=True):
        image = plain[line["img_id"]]
        number, size = int(line["num_boxes"]), [int(line["img_w"]), int(line["img_h"])]
        assert (number, *size) == tuple(int(image[key]) for key in ("num_bbox", "image_w", "image_h"))
        for field, kind, expected in (("boxes", "f4", image["bbox"]), ("features", "f4", image["x"])):
            array = np.frombuffer(base64.b64decode(line[field]), kind).reshape(number, -1)
            np.testing.assert_array_equal(array, expected)
        assert np.frombuffer(base64.b64decode(line["objects_id"]), np.int64).shape == (number,)
        with Path("features.tsv").open() as file:
            file.seek(start)
            key, told = file.readline().split("\t")
        told = json.loads(told)
        features = np.frombuffer(base64.b64decode(told["features"]), np.float32).reshape(told["num_boxes"], -1)
        assert key == line["img_id"]
        np.testing.assert_array_equal(features[:, :8], image["x"])
        np.testing.assert_allclose(features[:, 8:12] * [*size, *size], image["bbox"], rtol=1e-6)
        info = np.load(f"mmf/{key}_info.npy", allow_pickle=True).item()
        np.testing.assert_array_equal(np.load(f"mmf/{key}.npy"), image["x"])
        assert (info["num_boxes"], info["image_width"], info["image_height"]) == (number, *size)
    with h5py.File("regions.h5") as file:  # as updown's ImageFeaturesReader
        index = {file["image_id"][n]: n for n in range(file["image_id"].shape[0])}
        for name, image in plain.items():
            np.testing.assert_array_equal(file["features"][index[int(name)]][: len(image["x"])], image["x"])
