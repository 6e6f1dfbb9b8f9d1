"""The two pages of reports, and the sections of each: titles, texts, tables and plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.reporting import curves, plots, ranking, strain, strain_plots
from benchmarks.reporting.headline import headline, wins
from benchmarks.reporting.ladder import ladder
from benchmarks.reporting.peers import peers
from benchmarks.reporting.plots import Plot
from benchmarks.reporting.sweep import in_process, sweep
from benchmarks.rig.points import Point

CONTINUE = "everything; run it again to continue after an interruption"


@dataclass(frozen=True)
class Section:
    """A part of a page; `body` makes its text from its points, `plots` are by file name."""

    title: str
    about: str
    body: Callable[[Sequence[Point]], str]
    plots: Mapping[str, Plot]
    also: tuple[str, ...] = ()
    """Other sections whose points belong to it."""
    expected: str = ""
    """A status with which some of its requests are answered rightly."""


@dataclass(frozen=True)
class Page:
    """A report: `commands` measure it, and what each does; `rounds` tells how figures are made of rounds."""

    title: str
    commands: Mapping[str, str]
    rounds: str
    sections: Mapping[str, Section]
    summary: Callable[[Sequence[Point]], str]


SERVING = Page(
    "Benchmarks",
    {"make bench": CONTINUE, "make bench-quick": "the core of it, in three minutes"},
    "The rounds of the ladder, of peers, settings and cores are interleaved: figures that are compared were measured "
    "side by side in every round. Figures are medians, with the smallest and the largest round in brackets; a ratio is "
    "the median of the ratios of all rounds. The other sections measure each point once.",
    {
        "ladder": Section(
            "The ladder: what each step costs",
            "The same questions in process, to Triton, and to `serve` in each form. perf_analyzer (gRPC, and HTTP in "
            "binary form) sends other random ids. In process, a thread for each request at once calls the module, at "
            "most one a core. Triton's SageMaker port has loaded the scoring model, Triton the scoring and the ranking "
            "model, `serve` all models of a recommender; the memory differs accordingly. The GMF, with as many factors "
            "as the NeuMF of all other questions, is in a Triton and a `serve` of its own.",
            ladder, {"ladder": plots.ladder},
        ),
        "peers": Section(
            "Peers",
            "Other servers with the same module and requests, with the settings that their documentation recommends, "
            "beside `serve`. Before its first answer `serve` loads all models of a recommender and warms them up; "
            "a peer loads the model that it scores pairs with. A peer that is asked for the top 10 has the exported "
            "query module as well, and its answer is compared with that of `serve` before it is measured.",
            peers, {"peers": plots.peers}, ("peer_start",),
        ),
        "sweep": Section(
            "Triton under perf_analyzer",
            "The models without `serve`. Along a line of the first plot the number of requests at once grows; in the "
            "second, requests are sent at a given rate, whether or not earlier requests are answered.",
            sweep, {"sweep": curves.sweep_closed, "sweep-open": curves.sweep_open},
        ),
        "in_process": Section(
            "The module alone", "The exported module in process, in large batches.",
            in_process, {"in-process": curves.in_process},
        ),
        "saturation": Section(
            "More than can be answered",
            "Requests at given rates, below and above the capacity, whether or not earlier requests are answered.",
            strain.saturation, {"saturation": strain_plots.saturation}, expected="503",
        ),
        "soak": Section(
            "Minutes of load", "A mix of requests at half of the capacity, and the memory of every process.",
            lambda points: strain.soak(strain.last_take(points)),
            {"soak": lambda points: strain_plots.soak(strain.last_take(points))}, expected="400",
        ),
        "models": Section(
            "Many models", "One `serve` in multi-model mode with a growing number of models.",
            strain.models, {"models": strain_plots.models},
        ),
        "search": Section(
            "Search for a configuration", "Triton's batching and instances, 16 requests at once.", strain.search, {},
        ),
        "settings": Section(
            "Settings of serve",
            "The throughput with numbers of worker processes and of Triton's threads, 16 requests at once.",
            strain.settings, {},
        ),
        "cores": Section(
            "More cores", "`serve` with all its processes pinned to a number of cores, 16 requests at once.",
            strain.cores, {},
        ),
    },
    lambda points: f"## Where a peer wins\n\n{wins(points)}\n\n## In short\n\n"
    f"{headline(points) or 'Neither the ladder nor peers were measured in this run.'}",
)  # fmt: skip
RANKING = Page(
    "Ranking whole catalogues",
    {"make bench-topk": CONTINUE, 'make bench-topk ARGS="--quick"': "fewer and shorter rounds, smaller catalogues"},
    "Rounds are interleaved: figures that are compared were measured side by side in every round. Figures are medians, "
    "with the smallest and the largest round in brackets; a ratio is the median of the ratios of all rounds.",
    {
        "catalogue": Section(
            "The query model beside scoring every item",
            "One user's 100 best items through Triton: by a query, by one that excludes three more items, "
            "and by scoring every item with the scoring model and choosing the best in the client.",
            ranking.catalogue, {},
        ),
        "implicit": Section(
            "Beside implicit",
            "The same items by the library implicit with the same factors, and by the exported module, in process.",
            ranking.implicit, {},
        ),
        "ids": Section(
            "Id files", "A process for each round opens an id file and looks random ids up in it.", ranking.ids, {},
        ),
        "device": Section(
            "Triton's own times", "One user's 100 best items, by Triton's statistics; and users/s in full batches.",
            ranking.device, {},
        ),
    },
    lambda points: "",
)  # fmt: skip


def page_of(points: Sequence[Point]) -> Page:
    """The page that these points belong on."""
    return RANKING if any(point.section in RANKING.sections for point in points) else SERVING
