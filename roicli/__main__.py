"""`python -m roicli`."""

from roicli.cli.main import main

if __name__ == "__main__":
    main(prog_name="roicli")
