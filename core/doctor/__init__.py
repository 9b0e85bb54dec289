"""Examines a running installation: each promise of the design as far as rows, Redis and this machine can tell.

Reads only. `examination.examine` is the whole of it; one file for each kind of promise.
"""
