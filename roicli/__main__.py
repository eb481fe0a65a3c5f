"""`roicli` and `python -m roicli`."""

import gc
import os
import sys
from typing import NoReturn

from roicli import interrupts

# Objects made before Python looks for cycles again: little that is loaded is garbage, and to look takes time.
_OBJECTS = 100_000


def main() -> NoReturn:
    """Run the command line, and leave without Python's own end.

    That would take 10 ms, and wait for threads and processes. With Python 3.12 it can crash in HDF5.
    """
    interrupts.listen()
    gc.set_threshold(_OBJECTS)
    try:
        from roicli.cli.main import main as run

        code = run(prog_name="roicli")
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt as error:
        code = interrupts.exit_code(error)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            code = code or 3
    os._exit(int(code or 0))


if __name__ == "__main__":
    main()
