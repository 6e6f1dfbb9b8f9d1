"""Section "search": the max_batch_size, queue delay and instances that serve a recommender best.

The result is written as a file for `ncf export`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import click
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from benchmarks.rig.perf_analyzer import (
    STABLE_PERCENT,
    Analyzer,
    Load,
    Outcome,
    find_analyzer,
    measure,
    sample,
    write_input,
    write_users,
)
from benchmarks.rig.points import Key, Point
from benchmarks.rig.recommender import Recommender
from benchmarks.rig.run import BenchRun
from benchmarks.rig.tritonserver import tritonserver

SECTION, PRESET = "search", "export_preset.json"
BATCH = {"score": 64, "query": 1}  # rows a request; 16 requests have more rows than the smallest batch size below
BATCH_SIZES = {"score": (256, 1024, 16_384), "query": (4, 16, 64)}
DELAYS, INSTANCES = (0, 100, 500, 2000), (1, 2)
ALONE, BUSY = 1, 16  # connections
P99_FACTOR, EQUAL = 1.25, 0.95
ROUNDS = 3  # of a third of the seconds each


@dataclass(frozen=True)
class Setting:
    """The settings that vary, with the names that the file for `ncf export` has."""

    max_batch_size: int
    max_queue_delay_microseconds: int
    instances: int

    @classmethod
    def of(cls, key: Key) -> Setting:
        return cls(*(int(key[field.name]) for field in fields(cls)))

    def key(self, model: str) -> dict[str, str | int | float]:
        return {"model": model, **self.record()}

    def record(self) -> dict[str, int]:
        return asdict(self)


def run(run: BenchRun) -> None:
    """Measure scoring and ranking (quick: scoring only, with fewer values), and write the best settings to a file."""
    analyzer, chosen = find_analyzer(), {}
    for model in ("score",) if run.quick else ("score", "query"):
        default = current(run.recommender, model)
        keys = [setting.key(model) for setting in settings(default, model, run.quick)]
        missing = [Setting.of(key) for key in run.points.missing(SECTION, keys)]
        if missing:
            add_points(run, analyzer, model, missing)
        best = choose(run.points.of(SECTION), model, default)
        if best is None:
            run.say(f"search: {model} was not stable with the defaults, so nothing can be compared with them")
        else:
            chosen[model] = best.record()
            run.say(f"search: the best settings for {model} are {chosen[model]}")
    if chosen:
        (run.points.folder / PRESET).write_text(json.dumps(chosen, indent=1) + "\n")


def settings(default: Setting, model: str, quick: bool) -> list[Setting]:
    """Every delay with every number of instances at the default batch size, and every batch size with other defaults.

    The full grid is not needed: a batch size matters only where more rows wait than it allows, whatever the delay.
    """
    delays, sizes = (DELAYS[:2], BATCH_SIZES[model][-2:]) if quick else (DELAYS, BATCH_SIZES[model])
    found = [
        replace(default, max_queue_delay_microseconds=delay, instances=instances)
        for instances in INSTANCES
        for delay in delays
    ]
    return list(dict.fromkeys([*found, *(replace(default, max_batch_size=size) for size in sizes)]))


def choose(points: list[Point], model: str, default: Setting) -> Setting | None:
    """The best of the stable settings; None if the default was not stable, because then there is no comparison.

    Settings whose p99 at one connection is more than 1.25 times the lowest are excluded. Of the others, those with at
    least 95 % of the most requests/s at 16 connections count as equal; among them the fewest instances are preferred,
    then the largest batch, then the shortest delay.
    """
    found = {
        Setting.of(point.key): point.figures
        for point in points
        if point.key["model"] == model and not point.error and "alone_p99_ms" in point.figures
    }
    if default not in found:
        return None
    quick = P99_FACTOR * min(figures["alone_p99_ms"] for figures in found.values())
    prompt = {setting: figures for setting, figures in found.items() if figures["alone_p99_ms"] <= quick}
    most = EQUAL * max(figures["requests_per_s"] for figures in prompt.values())
    equal = [setting for setting, figures in prompt.items() if figures["requests_per_s"] >= most]
    return min(equal, key=lambda each: (each.instances, -each.max_batch_size, each.max_queue_delay_microseconds))


def current(recommender: Recommender, model: str) -> Setting:
    """The default settings of `ncf export`."""
    config = read_config(folder_of(recommender, model) / "config.pbtxt")
    delay = config.dynamic_batching.max_queue_delay_microseconds
    return Setting(config.max_batch_size, delay, config.instance_group[0].count or 1)


def folder_of(recommender: Recommender, model: str) -> Path:
    return recommender.exported.score if model == "score" else recommender.exported.query


def add_points(run: BenchRun, analyzer: Analyzer, model: str, settings: list[Setting]) -> None:
    """Measure these settings as models of one server, in interleaved rounds, every second round in reverse order.

    A point has the figures of the round with the median requests/s at 16 connections, and as `alone_…` those of the
    round with the median p99 at one connection.
    """
    repository = Path(tempfile.mkdtemp(dir=run.folder))
    source = folder_of(run.recommender, model)
    names = [f"{source.name}_{number}" for number in range(len(settings))]
    try:
        for name, setting in zip(names, settings, strict=True):
            shutil.copytree(source, repository / name)
            rewrite(repository / name / "config.pbtxt", setting)
        found = rounds(run, analyzer, model, repository, names)
    except click.ClickException as failed:
        for setting in settings:
            run.points.add(SECTION, setting.key(model), {}, failed.message.splitlines()[0])
        return
    finally:
        shutil.rmtree(repository, ignore_errors=True)
    for name, setting in zip(names, settings, strict=True):
        busy, alone = median(found[name, BUSY], "requests_per_s"), median(found[name, ALONE], "p99_ms")
        figures = {**busy.figures, **{f"alone_{each}": value for each, value in alone.figures.items()}}
        run.points.add(SECTION, setting.key(model), figures, apart(found[name, BUSY]), busy.command)


def apart(outcomes: list[Outcome]) -> str:
    """The error of a point whose rounds differ or failed; empty if they agree, whatever their windows say."""
    rates = [float(each.figures["requests_per_s"]) for each in outcomes if each.figures]
    if len(rates) < len(outcomes):
        return next(each.error for each in outcomes if not each.figures)
    if max(rates) > (1 + STABLE_PERCENT / 100) * min(rates):
        listed = ", ".join(f"{rate:.0f}" for rate in rates)
        return f"unstable: the rounds gave {listed} requests/s; use an idle machine or longer --seconds"
    return ""


def rounds(
    run: BenchRun, analyzer: Analyzer, model: str, repository: Path, names: list[str]
) -> dict[tuple[str, int], list[Outcome]]:
    """The outcomes of all rounds, by model and connections."""
    users, items = run.recommender.num_users, run.recommender.num_items
    file, inputs = run.folder / f"search-{model}.json", {"user_index": users, "item_index": items}
    data = write_input(file, inputs) if model == "score" else write_users(file, users)
    found: dict[tuple[str, int], list[Outcome]] = {(name, load): [] for name in names for load in (BUSY, ALONE)}
    with (
        tritonserver(run, repository, *names) as triton,
        run.steps(f"search: {model}", ROUNDS * len(found)) as advance,
    ):
        port, seconds = triton.ports["http"], run.seconds / ROUNDS
        for name in names:
            sample(analyzer, Load(name, "http", BATCH[model], BUSY), port, data, 1.0)
        for number in range(ROUNDS):
            for name, connections in [*found][:: -1 if number % 2 else 1]:
                load = Load(name, "http", BATCH[model], connections)
                found[name, connections].append(measure(analyzer, load, port, data, seconds, again=False))
                advance(1)
    return found


def median(outcomes: list[Outcome], name: str) -> Outcome:
    """The outcome with the median figure; a failed outcome if none has the figure."""
    measured = sorted((each for each in outcomes if name in each.figures), key=lambda each: float(each.figures[name]))
    return measured[len(measured) // 2] if measured else outcomes[0]


def rewrite(path: Path, setting: Setting) -> None:
    """Write the setting into a config.pbtxt; preferred and warm-up sizes above its batch size are adapted."""
    config = read_config(path)
    rows = config.max_batch_size = setting.max_batch_size
    batching = config.dynamic_batching
    batching.max_queue_delay_microseconds = setting.max_queue_delay_microseconds
    batching.preferred_batch_size[:] = sorted({min(size, rows) for size in batching.preferred_batch_size})
    for group in config.instance_group:
        group.count = setting.instances
    warmups = [warmup for warmup in config.model_warmup if warmup.batch_size <= rows]
    del config.model_warmup[:]
    config.model_warmup.extend(warmups)
    path.write_text(text_format.MessageToString(config))


def read_config(path: Path) -> Any:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
