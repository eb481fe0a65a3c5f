"""`roicli` and `python -m roicli`."""

import gc

from roicli.execution import interrupts as signals

# Objects made before Python looks for cycles again: little that is loaded is garbage, and to look takes time.
_OBJECTS = 100_000


def main() -> None:
    """Run the command line; signals are heard before all that it needs is loaded."""
    signals.listen()
    gc.set_threshold(_OBJECTS)
    from roicli.cli.main import main as run

    try:
        run(prog_name="roicli")
    finally:
        signals.ignore()


if __name__ == "__main__":
    main()
