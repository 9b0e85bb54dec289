"""How long it takes until everything is as it should be: shown by `-s`, and kept as JSON where MILLRACE_RECOVERY says.

The figures of docs/reliability.md come from here. No test asserts one.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def recovery(fault: str) -> Iterator[None]:
    """From the moment the fault is over, or a process would be started again, to the end of the block."""
    began = time.monotonic()
    yield
    seconds = round(time.monotonic() - began, 2)
    sys.stdout.write(f"\nrecovered from {fault} in {seconds:.2f} s\n")
    if kept := os.environ.get("MILLRACE_RECOVERY"):
        path = Path(kept)
        figures = json.loads(path.read_text()) if path.exists() else {}
        figures.setdefault(fault, []).append(seconds)
        path.write_text(json.dumps(figures, indent=2) + "\n")
