"""`make bench`: `serve` measured beside the tritonserver behind it, and beside the servers it competes with."""

from __future__ import annotations

from benchmarks.reporting.report import write_report
from benchmarks.rig.command import Room, command
from benchmarks.rig.run import FACTORS, ITEMS, MODEL, USERS

ROOM = Room(
    package="benchmarks.serving",
    about="""Measure serve, Triton and other servers; write a report in Markdown, its plots and the raw data.

    Every point is on disk before the next one is measured: interrupt the command as you like, and run it again to
    continue. The report covers the points that are there.

    \b
    Examples:
      make bench                       about an hour
      make bench-quick                 three minutes
      python -m benchmarks.serving --only ladder,peers
    """,
    sections={
        "in_process": "the exported module alone, in batches of 1,024 to 1,048,576",
        "sweep": "perf_analyzer on <name> and <name>_query: closed and open loop, HTTP and gRPC",
        "ladder": "the same requests in process, through Triton, and through serve",
        "peers": "TorchServe, MLServer, BentoML, LitServe, mosec and Ray Serve beside serve",
        "saturation": "more requests than serve can answer, and the recovery afterwards",
        "models": "loading and unloading, and 2 to 50 models in one server",
        "search": "max_batch_size, queue delay and instances; writes a preset for `ncf export`",
        "settings": "worker processes of serve and threads of Triton",
        "cores": "serve pinned to 1, 2, 4 and 8 cores",
        "soak": "ten minutes of load, and the memory of every process",
    },
    quick=("sweep", "ladder", "saturation"),
    on_gpu=("in_process", "sweep", "ladder", "search"),
    output="build/bench",
    rounds=3,
    seconds=2.0,
    settings={"model": f"{MODEL}, {FACTORS} factors, {USERS:,} users × {ITEMS:,} items"},
)
main = command(ROOM, write_report)

if __name__ == "__main__":
    main(prog_name="python -m benchmarks.serving")
