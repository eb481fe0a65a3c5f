"""`roicli` and `python -m roicli`."""

from roicli import signals


def main() -> None:
    """Run the command line; signals are heard before all that it needs is loaded."""
    signals.listen()
    from roicli.cli.main import main as run

    run(prog_name="roicli")


if __name__ == "__main__":
    main()
