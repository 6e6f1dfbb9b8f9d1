"""The benchmark's report: from all points, from few, from failed ones; who wins is said first; the README's table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import polars as pl
import pytest
from click.testing import CliRunner

from benchmarks.reporting.pages import RANKING, SERVING
from benchmarks.reporting.report import circumstances, main, readme_block, update_readme, write_report
from benchmarks.rig.points import Points, read_points

SETTINGS = {"processor": "A Processor", "cores": 2, "rounds": 3, "tritonserver": "of pytriton 0.7.0", "quick": False}
ROUNDS = range(3)
RUNGS = {
    "in process": 9000, "Triton gRPC": 4000, "Triton HTTP, binary": 3900, "Triton HTTP": 3800,
    "Triton's SageMaker port": 3600, "serve, passed through": 2700, "serve, JSON pairs": 1800, "serve, CSV": 1700,
}  # fmt: skip
PICTURES = {f"{name}.png" for section in SERVING.sections.values() for name in section.plots}


def load(rate: float, others: float = 0.1) -> dict[str, Any]:
    return {
        "requests_per_s": rate, "rows_per_s": 100 * rate, "p50_ms": 1e3 / rate, "p95_ms": 2e3 / rate,
        "p99_ms": 3e3 / rate, "requests": 1000, "errors": {}, "cpu_us": {"front": 90.0, "model": 10.0},
        "memory_mb": {"front": 80.0, "model": 200.0}, "others": others,
    }  # fmt: skip


def add_ladder(points: Points, others: float = 0.1) -> None:
    for number_ in ROUNDS:
        for ask in ("1 pair", "100 pairs", "top 10", "top 10, GMF"):
            for rung, rate in RUNGS.items():
                top = ask.startswith("top 10")
                if top and ("SageMaker" in rung or rung in ("serve, passed through", "serve, CSV")):
                    continue
                if ask == "top 10, GMF" and rung in ("Triton gRPC", "Triton HTTP, binary"):
                    continue
                name = "serve, JSON" if top and rung == "serve, JSON pairs" else rung
                for concurrency in (1, 16):
                    key = {"rung": name, "ask": ask, "concurrency": concurrency, "round": number_}
                    figures = {**load(rate * (1 + number_ / 100), others), "tool": "wrk"}
                    points.add("ladder", key, figures, command=f"wrk --connections {concurrency}")


def add_peers(points: Points, peers: Mapping[str, float]) -> None:
    for number_ in ROUNDS:
        for peer, part in peers.items():
            start = {"first_answer_s": 8.0, "memory_mb": {"front": 900.0}, "version": "1.2.3", "settings": "workers=2"}
            points.add("peer_start", {"peer": peer, "round": number_}, start)
            for rows in (1, 100, "top 10") if peer == "TorchServe" else (1, 100):
                key = {"peer": peer, "rows": rows, "concurrency": 16, "round": number_}
                points.add("peers", key, {**load(2000 * part), "serve": load(2000)})


def add_sweep(points: Points) -> None:
    for model in ("score", "topk"):
        key = {"model": model, "protocol": "grpc", "batch": 1}
        for concurrency in (1, 4, 16):
            error = "unstable: three windows never agreed" if concurrency == 16 else ""
            points.add("sweep", {**key, "load": "closed", "concurrency": concurrency}, load(900 * concurrency), error)
        for share in (0.5, 0.9):
            points.add("sweep", {**key, "load": "open", "share": share}, {**load(900 * share), "asked_per_s": 900})


def add_strain(points: Points) -> None:
    for share in (0.5, 1.0, 2.0):
        figures = {
            "offered_per_s": 1000 * share, "accepted_per_s": min(950.0, 1000 * share), "shed_share": 0.1, "p99_ms": 4.0,
            "refused_p99_ms": 2.0 if share > 1 else None, "lag_ms": 0.3, "errors": {"503": 7},
        }  # fmt: skip
        points.add("saturation", {"share": share, "max_in_flight": 64}, figures)
    points.add("saturation", {"share": "capacity", "max_in_flight": 64}, load(1000))
    points.add("saturation", {"share": "recovery", "max_in_flight": 64}, {"recovery_s": 0.5})
    for take in (1, 2):
        for second in (0, 5, 10):
            figures = {
                "memory_mb": {"front": 80.0 + take},
                "accepted_per_s": 500.0,
                "p99_ms": 5.0,
                "errors": {"400": 3},
            }
            points.add("soak", {"take": take, "second": second}, figures)
    slope = {"front": {"slope": 9.0, "standard_error": 1.0}, "all": {"slope": None, "standard_error": None}}
    points.add("soak", {"take": 2, "summary": "slope"}, {"mb_per_hour": slope})
    for count in (2, 50):
        points.add("models", {"models": count, "what": "load"}, {"load_s": [3.0] * count})
        points.add("models", {"models": count, "what": "unload"}, {"unload_s": [0.2, 0.3]})
        points.add(
            "models", {"models": count, "what": "memory"}, {"memory_mb": {"model": 200.0 * count}, "mb_a_model": 200.0}
        )
        throughput = {**load(700), "one_model_requests_per_s": 900.0}
        points.add("models", {"models": count, "what": "throughput", "round": 0}, throughput)
    for delay in (0, 100):
        key = {"model": "score", "max_batch_size": 64, "max_queue_delay_microseconds": delay, "instances": 1}
        points.add("search", key, {**load(1000 + delay), "alone_p99_ms": 0.5})
    for batch in (1024, 4096):
        key = {"device": "cpu", "dtype": "fp32", "model": "neumf", "batch": batch}
        points.add("in_process", key, {"samples_per_s": 1e6, "p50_ms": 1.0, "p99_ms": 2.0})
    for cores in (1, 2):
        key = {"cores": cores, "ask": "1 pair, passed through", "concurrency": 16, "round": 0}
        points.add("cores", key, {**load(900 * cores), "wrk_shares_cores": cores == 2})
    points.add("settings", {"setting": "SERVE_WORKERS", "value": 1, "ask": "1 pair", "concurrency": 16}, load(900))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of points of every section, with a preset and a configuration beside them."""
    folder = tmp_path_factory.mktemp("bench")
    points = Points(folder / "points", SETTINGS, "abc1234")
    add_ladder(points, others=0.6)
    add_peers(points, {"TorchServe": 0.4, "mosec": 1.25})
    add_sweep(points)
    add_strain(points)
    (points.folder / "export_preset.json").write_text('{"instances": 2}')
    (points.folder / "configs").mkdir()
    (points.folder / "configs/score.pbtxt").write_text("max_batch_size: 64\n")
    write_report(points, folder / "report")
    return folder / "report"


def test_every_section_and_picture_is_there(full: Path) -> None:
    page = (full / "README.md").read_text()
    for section in SERVING.sections.values():
        assert f"\n## {section.title}\n" in page
    assert "Not measured in this run" not in page
    assert {path.name for path in full.glob("*.png")} == PICTURES
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (full / link).exists(), link
    for name in PICTURES:
        assert (full / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in page
    assert (full / "data/configs/score.pbtxt").read_text() == "max_batch_size: 64\n"
    assert '{"instances": 2}' in page
    assert "abc1234" in page
    assert "| 1 pair, passed through | 2 | 1,800 |" in page
    assert "MB a model" in page
    assert "stand-in for the libtorch backend" in page
    native = circumstances(SERVING, {"tritonserver": "of nvidia-pytriton 0.7.0, native pytorch backend"})
    assert "Models run in this project's pytorch backend" in native


def test_what_a_peer_is_not_asked_has_no_row(full: Path) -> None:
    page = (full / "README.md").read_text()
    ranked = page.split("**top 10, NeuMF**\n\n")[1].split("\n\n")[0]
    assert "| TorchServe | 800 |" in ranked
    assert "mosec" not in ranked


def test_tables_are_whole(full: Path) -> None:
    """Every line of a table has as many cells as the one above it."""
    lines = (full / "README.md").read_text().splitlines()
    for above, line in pairwise(lines):
        if above.startswith("|") and line.startswith("|"):
            assert above.replace("\\|", "").count("|") == line.replace("\\|", "").count("|")


def test_a_peer_that_wins_is_named_before_all_figures(full: Path) -> None:
    page = (full / "README.md").read_text()
    said = page.index("**mosec beats serve at 1 pair, 16 at once**: 1.25 × its requests/s.")
    assert said < page.index("\n## In short")
    assert "TorchServe beats" not in page


def test_what_was_seen_is_said(full: Path) -> None:
    page = (full / "README.md").read_text()
    assert "unrelated work took 0.600 cores" in page  # the ladder's section
    assert "these sections were measured: ladder." in page
    assert "| 9.00 ± 1.00 |" in page  # MB an hour
    assert "concurrency 16: unstable: three windows never agreed" in page
    assert "“serve, passed through” adds" in page
    assert "0.750 ×" in page  # passed through, of Triton's SageMaker port
    assert "503" not in page.split("## More than can be answered")[1].split("\n## ")[0]  # refusals are no fault there


def test_the_last_take_of_a_soak_counts(full: Path) -> None:
    soak = (full / "README.md").read_text().split("## Minutes of load")[1].split("\n## ")[0]
    assert "| front | 82.0 | 82.0 | 9.00 ± 1.00 |" in soak
    assert "400" not in soak  # what some of the mix must get


def test_the_data_is_flat(full: Path) -> None:
    ladder = pl.read_csv(full / "data/ladder.csv")
    assert ladder.columns[:4] == ["rung", "ask", "concurrency", "round"]
    assert ladder.columns[-4:] == ["error", "command", "commit", "at"]
    assert {"requests_per_s", "p99_ms", "cpu_us.front", "memory_mb.model", "tool"} <= set(ladder.columns)
    assert len(ladder) == 3 * 2 * (8 + 8 + 5 + 3)
    assert "serve.p99_ms" in pl.read_csv(full / "data/peers.csv").columns
    assert pl.read_csv(full / "data/saturation.csv")["share"].to_list()[-2:] == ["capacity", "recovery"]
    assert {point.commit for point in read_points(full / "data")} == {"abc1234"}
    models = pl.read_csv(full / "data/models.csv")
    assert models["mb_a_model"].drop_nulls().to_list() == [200.0, 200.0]


def test_from_its_own_data_the_report_is_the_same(tmp_path: Path) -> None:
    """And only what is between the marks of the README is replaced, by figures that lead to the report."""
    first, again, readme = tmp_path / "first", tmp_path / "again", tmp_path / "README.md"
    points = Points(tmp_path / "points", SETTINGS)
    add_ladder(points)
    add_peers(points, {"TorchServe": 0.5, "mosec": 1.25})
    write_report(points, first)
    readme.write_text("above\n\n<!-- bench -->\nold\n<!-- /bench -->\n\nbelow\n")
    ended = CliRunner().invoke(main, [str(first / "data"), "--output", str(again), "--readme", str(readme)])
    assert ended.exit_code == 0, ended.output
    for path in first.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(first)).read_bytes(), path.name
    block = readme_block(again / "data", readme)
    assert readme.read_text() == f"above\n\n<!-- bench -->\n{block}\n<!-- /bench -->\n\nbelow\n"
    update_readme(readme, block)
    assert readme.read_text() == f"above\n\n<!-- bench -->\n{block}\n<!-- /bench -->\n\nbelow\n"
    assert "| 100 pairs, JSON pairs | 1,820 |" in block
    assert "| 1 pair, JSON pairs |" not in block  # the front page has a row for each way to ask
    assert "| top 10, NeuMF, JSON | 1,820 |" in block
    assert "| top 10, GMF, JSON | 1,820 |" in block
    assert "TorchServe ranked the same catalogue" in block
    assert "| TorchServe | 0.500 × | 0.500 × | 0.500 × |" in block
    assert "| mosec | 1.25 × | 1.25 × | – |" in block
    (link,) = re.findall(r"\]\(([^)]+)\)", block)
    assert link == "again/README.md"


def test_of_few_points_what_is_missing_is_said(tmp_path: Path) -> None:
    points = Points(tmp_path / "points", {**SETTINGS, "quick": True})
    key = {"rung": "serve, JSON pairs", "ask": "1 pair", "concurrency": 1, "round": 0}
    points.add("ladder", key, {"requests_per_s": 1234.0})
    page = write_report(points, tmp_path / "report").read_text()
    assert "Not measured in this run: peers (Peers); sweep" in page
    assert "No peer was measured in this run." in page
    assert "Not measured: in process, Triton gRPC" in page
    assert "1,230" in page
    assert "**quick**" in page
    assert not (tmp_path / "report/peers.png").exists()


@pytest.mark.parametrize("section", [*SERVING.sections, *RANKING.sections, "peer_start", "unheard of"])
def test_failed_points_are_listed_and_break_nothing(section: str, tmp_path: Path) -> None:
    points = Points(tmp_path / "points", {})
    for number_ in ROUNDS:
        points.add(section, {"peer": "mosec", "round": number_}, {}, "it | broke;\ntry again", "command")
    page = write_report(points, tmp_path / "report").read_text()
    assert "3 of them failed or unstable" in page
    if section != "unheard of":
        assert "peer mosec: it | broke; try again (3 rounds)" in page
    assert not list((tmp_path / "report").glob("*.png"))
    assert len(pl.read_csv(tmp_path / f"report/data/{section}.csv")) == 3


def test_a_peer_without_figures_is_no_win_of_serve(tmp_path: Path) -> None:
    points = Points(tmp_path, SETTINGS)
    add_peers(points, {"TorchServe": 0.4})
    key = {"peer": "mosec", "rows": 1, "concurrency": 16, "round": 0}
    points.add("peers", key, {}, "mosec does not start; see its log")
    page = write_report(points, tmp_path / "report").read_text()
    assert "No peer wins at any of the 3 points measured." in page
    assert "Without a figure, see what failed below: mosec (1 pair, 16 at once)." in page


def test_rounds_that_disagree_are_called_so(tmp_path: Path) -> None:
    points = Points(tmp_path, SETTINGS)
    for number_, part in enumerate((0.9, 1.2, 1.3)):
        key = {"peer": "mosec", "rows": 1, "concurrency": 16, "round": number_}
        points.add("peers", key, {"requests_per_s": 100 * part, "serve": {"requests_per_s": 100}})
    page = write_report(points, tmp_path / "report").read_text()
    assert "1.20 × (0.900–1.30) its requests/s; not in every round, so it may be chance." in page


@pytest.mark.parametrize("text", ["none", "<!-- bench -->", "<!-- /bench --> <!-- bench -->", "<!-- bench -->" * 2])
def test_a_readme_without_the_marks_is_left_alone(text: str, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(click.ClickException, match="needs a line <!-- bench --> and below it a line"):
        update_readme(readme, "new")
    assert readme.read_text() == text


@pytest.mark.parametrize("files", [(), ("run.json",), ("points.jsonl",)])
def test_a_folder_without_points_is_a_plain_mistake(files: tuple[str, ...], tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    ended = CliRunner().invoke(main, [str(tmp_path / "none" if not files else tmp_path)])
    assert ended.exit_code == 1
    assert "has no points of a run" in ended.output
    assert "build/bench" in ended.output
    assert not (tmp_path / "none").exists()


def test_help_has_an_example() -> None:
    assert "python -m benchmarks.reporting.report build/bench" in CliRunner().invoke(main, ["--help"]).output
