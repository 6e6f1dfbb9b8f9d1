"""A job with channels of features."""

from __future__ import annotations

from pathlib import Path

from ncf.job.job import TrainingJob
from ncf.training.run_directory import load_features, load_run
from tests.support.jobs import small_job

ITEMS = "item_id,rest\n" + "".join(f"i{item},{item % 5}\n" for item in range(40))
USERS = "user_id,rest\n" + "".join(f"u{user},{user % 5}\n" for user in range(30))


def test_channels_of_features_are_learned_from(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml")
    job.put("item_features", "items.csv", ITEMS)
    job.put("user_features", "users.csv", USERS)
    assert TrainingJob(job.base, {}).run() == 0
    learned = load_features(load_run(job.run_directory))
    assert learned is not None
    assert [side.encoding.num_values for side in (learned.users, learned.items) if side is not None] == [6, 6]


def test_several_processes_are_refused_before_they_start(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml", processes="2")
    job.put("item_features", "items.csv", ITEMS)
    assert TrainingJob(job.base, {}).run() == 2
    assert job.failure.startswith("features are trained by one process, and there are 2; start one")


def test_a_channel_holds_one_table(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml")
    job.put("item_features", "1.csv", ITEMS)
    job.put("item_features", "2.csv", ITEMS)
    assert TrainingJob(job.base, {}).run() == 2
    assert "channel 'item_features' holds 2 tables; keep one table" in job.failure
