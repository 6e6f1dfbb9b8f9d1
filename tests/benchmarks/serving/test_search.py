"""The section `search`: settings in Triton's configuration, and the rule that chooses the best of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from benchmarks.rig.perf_analyzer import Outcome
from benchmarks.rig.points import Point
from benchmarks.serving.search import SECTION, Setting, apart, choose, median, read_config, rewrite, settings
from ncf.export.model_configs import query_config, score_config
from ncf.export.serving_settings import PartSettings


@pytest.mark.parametrize("setting", [Setting(16_384, 100, 1), Setting(256, 0, 2), Setting(4, 2000, 1)])
@pytest.mark.parametrize("config", [score_config("cpu"), query_config(10, "cpu")])
def test_a_configuration_is_rewritten_to_what_the_export_then_writes(setting: Setting, config, tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(config.to_pbtxt())
    rewrite(path, setting)
    wanted = PartSettings(**setting.record()).apply(config).to_pbtxt()
    assert read_config(path) == text_format.Parse(wanted, model_config_pb2.ModelConfig())
    assert max(read_config(path).dynamic_batching.preferred_batch_size) <= setting.max_batch_size


def point(rate: float, p99: float, rows: int = 1024, delay: int = 0, instances: int = 1, model: str = "score") -> Point:
    figures = {"requests_per_s": rate, "alone_p99_ms": p99}
    return Point(SECTION, Setting(rows, delay, instances).key(model), figures)


def test_the_fastest_wins_unless_one_connection_waits_longer() -> None:
    points = [point(100, 1.0), point(200, 1.2, delay=100), point(300, 1.3, delay=500)]
    assert choose(points, "score", Setting(1024, 0, 1)) == Setting(1024, 100, 1)


def test_of_equals_the_fewest_instances_the_largest_batch_and_the_shortest_delay_win() -> None:
    points = [
        point(104, 1.0, instances=2),
        point(100, 1.0, rows=256),
        point(100, 1.0, delay=100),
        point(101, 1.0, delay=500),
    ]
    assert choose(points, "score", Setting(256, 0, 1)) == Setting(1024, 100, 1)


def test_only_what_was_measured_of_this_model_counts() -> None:
    failed = Point(SECTION, Setting(1024, 0, 1).key("score"), error="did not start")
    others = [point(1, 1.0, model="query"), point(1, 1.0, delay=100)]
    assert choose([failed, *others], "score", Setting(1024, 0, 1)) is None
    assert choose([failed, *others], "score", Setting(1024, 100, 1)) == Setting(1024, 100, 1)


def test_rounds_that_agree_are_a_point_whatever_their_windows_say() -> None:
    rounds = [Outcome({"requests_per_s": rate}, "unstable: …") for rate in (100.0, 125.0, 110.0)]
    assert median(rounds, "requests_per_s") is rounds[2]
    assert apart(rounds) == ""
    assert apart([*rounds, Outcome({"requests_per_s": 50.0})]).startswith("unstable: the rounds gave 100, 125, 110, 50")
    assert apart([*rounds, Outcome(error="perf_analyzer did not end")]) == "perf_analyzer did not end"
    assert median([Outcome(error="a")], "requests_per_s").error == "a"


def test_the_settings_that_are_searched_differ_and_include_the_default() -> None:
    default = Setting(16_384, 100, 1)
    found = settings(default, "score", quick=False)
    assert len(found) == len(set(found)) == 10
    assert {default, Setting(16_384, 2000, 2), Setting(256, 100, 1)} <= set(found)
    assert len(settings(default, "score", quick=True)) == 5
