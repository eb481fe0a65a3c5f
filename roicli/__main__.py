"""`roicli` and `python -m roicli`."""

import gc

from roicli import signals


def main() -> None:
    """Run the command line; signals are heard before all that it needs is loaded."""
    signals.listen()
    from roicli.cli.main import main as run

    try:
        run(prog_name="roicli")
    finally:
        gc.freeze()  # what is still there goes with the process: nobody need look through it for cycles


if __name__ == "__main__":
    main()
