"""Benchmarks of `ncf` and `serve`; run them from the root of the repository, as `python -m benchmarks.ROOM`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
