"""Messages name parameters; the command line shows flags."""

import re
from pathlib import Path

import click
import pytest

import roicli
from roicli.cli.flags import as_flags
from roicli.cli.main import main

# Rooms below the command line name no flag.
PACKAGE = Path(roicli.__file__).parent
FLAG = re.compile(r"""["' (`]--[a-z]{3,}""")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Give `spatial_scale=1/16`.", "Give --spatial-scale 1/16."),
        ("give `aligned=True` or `aligned=False`", "give --aligned or --no-aligned"),
        ("`overwrite` with `resume=True`, `shard=2/10`", "--overwrite with --resume, --shard 2/10"),
        ("`box_format='xywh'`, `op=roi_pool`", "--box-format xywh, --op roi-pool"),
        ("check `features` and `boxes`; `output_size`", "check FEATURES and BOXES; --size"),
        ("save it with `numpy.save`, `x`, `array[0]`", "save it with `numpy.save`, `x`, `array[0]`"),
    ],
)
def test_parameters_become_flags(message, shown):
    with click.Context(main) as group:
        group.invoked_subcommand = "align"
        assert as_flags(message) == shown


def test_the_running_command_comes_first_and_then_the_main_one():
    with click.Context(main) as group:
        group.invoked_subcommand = "trace"
        assert as_flags("give `image=139`, or align with `shard=1/2`") == "give --image 139, or align with --shard 1/2"
    assert as_flags("`overwrite`") == "`overwrite`"
