"""`python -m cli.forge <file>`: loads once what every process needs, then forks one for each order on its stdin.

Each of Millrace's processes spends more than a second of CPU on the same imports; five of them on two cores would make
every start wait. A fork has them at once, and shares their memory. Knows only how to fork; `cli/launching.py` orders.

When nobody can order any more, because `up` was killed, it removes the file that says all is well, and ends; the kernel
then asks its forks to stop.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

# What all five load anyway; what is one process's own, it loads itself, beside the others.
_SHARED = ("core.resources", "core.predictions", "core.jobs", "core.health", "core.log", "aiohttp", "uvloop")

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_LONGEST_NAME = 15


def main() -> None:
    for module in _SHARED:
        importlib.import_module(module)
    # Nothing here is ever freed, so a child's collector need not look at it, and its pages stay shared.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # The kernel reaps; the supervisor watches by pidfd.
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    Path(sys.argv[1]).unlink(missing_ok=True)


def _become(order: dict[str, Any]) -> None:
    """Turns the fork into `python -m <module> <arguments>`, in a session of its own, with its output in its log."""
    name, module, arguments, log = order["name"], order["module"], order["arguments"], order["log"]
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    kernel = ctypes.CDLL(None)
    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    kernel.prctl(_PR_SET_NAME, f"millrace-{name}"[:_LONGEST_NAME].encode())
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for own, theirs in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(own, theirs)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main()
