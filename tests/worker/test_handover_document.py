"""What a node leaves for the program after it, when that cannot read it: it begins anew, and holds nothing open."""

import os
import socket
import subprocess
import sys

import orjson
import pytest

#: In a process of its own: whatever is open there, `inherited` may close.
PROGRAM = """
import os
from worker import handover

found = handover.inherited()
sockets = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")
           and os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") and int(fd) > 2]
print(found is not None, len(sockets))
"""
GOOD = {"version": 1, "fds": [], "node_id": "n", "boot_id": "b", "listeners": {}, "instances": {}, "children": []}


def read(content: bytes) -> str:
    """Whether it was read, and how many sockets are open then."""
    document = os.memfd_create("millrace-handover", 0)
    with socket.socket() as listener, os.fdopen(document, "wb") as stream:
        stream.write(content)
        stream.flush()
        fds = (stream.fileno(), listener.fileno())
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, pass_fds=fds, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_a_whole_document_is_read_and_its_sockets_stay_open() -> None:
    assert read(orjson.dumps(GOOD)) == "True 1"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff",
        orjson.dumps(GOOD)[:-20],
        orjson.dumps([1, 2]),
        orjson.dumps({**GOOD, "version": 0}),
        orjson.dumps({name: value for name, value in GOOD.items() if name != "version"}),
        orjson.dumps({**GOOD, "fds": [987]}),
    ],
    ids=["empty", "no JSON", "cut off", "another shape", "an older version", "no version", "a socket that is gone"],
)
def test_one_that_cannot_be_read_is_as_if_there_were_none(content: bytes) -> None:
    assert read(content) == "False 0"
