"""`python -m worker gpus`: prints this machine's GPUs as JSON."""

import sys

import orjson

from core.settings import Settings
from worker.gpus import list_gpus


def main(settings: Settings) -> int:
    sys.stdout.write(orjson.dumps([gpu.as_dict() for gpu in list_gpus()]).decode() + "\n")
    return 0
