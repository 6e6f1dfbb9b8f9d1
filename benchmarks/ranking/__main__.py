"""`make bench-topk`: ranking a whole catalogue through Triton, beside scoring every item and beside implicit."""

from __future__ import annotations

from benchmarks.reporting.report import write_report
from benchmarks.rig.command import Room, command

ROOM = Room(
    package="benchmarks.ranking",
    about="""Measure how fast whole catalogues are ranked; write a report in Markdown and the raw data.

    Comparisons are made within a run, in interleaved rounds, with random users and random weights. Every point is on
    disk before the next one is measured: interrupt the command as you like, and run it again to continue.

    \b
    Examples:
      make bench-topk
      python -m benchmarks.ranking --quick --only catalogue
      python -m benchmarks.ranking --device gpu
    """,
    sections={
        "catalogue": "a query, alone and with conditions, beside scoring every item, through Triton",
        "implicit": "the same items by the library implicit and by the bare module",
        "ids": "id files of 10 million ids (quick: 1 million)",
        "device": "Triton's own times for one user among a million items, and users/s in full batches",
    },
    quick=("catalogue", "implicit", "ids", "device"),
    on_gpu=("catalogue", "device"),
    output="build/bench-topk",
    rounds=7,
    seconds=1.0,
)
main = command(ROOM, write_report)

if __name__ == "__main__":
    main(prog_name="python -m benchmarks.ranking")
