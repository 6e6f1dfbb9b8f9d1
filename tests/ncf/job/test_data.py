"""The data of a job: what is found in its channels, what is said of them, and how a failure names them."""

from __future__ import annotations

import gzip
import json
import logging
import os
import tarfile
import threading
from pathlib import Path

import pytest

from ncf.data.load import load_split
from ncf.data.splits import Split, SplitOptions
from ncf.errors import InputError
from ncf.files.reading import Columns
from ncf.job.job import TrainingJob
from ncf.training.config import TrainConfig
from tests.ncf.job.splits import gathered, held, same, split_in
from tests.support.jobs import HEADER, QUICK, ROWS, Job, small_job, table


def test_headers_amid_the_data_and_empty_parts_are_said(job: Job, scratch: Path, one_file: Split) -> None:
    job.put("train", "1.csv", table(ROWS[:50]) + table(ROWS[50:]))
    job.put("train", "2.csv", HEADER)
    job.put("train", "3.csv", "")
    split = split_in(job, scratch)
    assert same(split, one_file)
    assert "1 repeated headers" in split.look[3]
    assert len(split.look) == 7


def test_folders_named_by_day_are_columns(job: Job, scratch: Path) -> None:
    for day in (1, 2, 3):
        rows = "".join(f"{user},{10 * day + user}\n" for user in (1, 2))
        job.put("train", f"dt=2024-01-0{day}/part-0.csv", "user_id,item_id\n" + rows)
    data = gathered(job, scratch)
    split = load_split(data.paths, SplitOptions(Columns(timestamp="dt")))
    assert held(split, split.held_out) == {(1, 31), (2, 32)}


def test_held_out_items_of_their_own_channel_take_no_number(job: Job, scratch: Path) -> None:
    job.put("train", "a.csv", table(ROWS))
    job.put("test", "test.csv", table(ROWS[::9]))
    with pytest.raises(
        InputError, match="held_out is 2, and the held-out items have a channel of their own: leave it out"
    ):
        gathered(job, scratch, TrainConfig(split=SplitOptions(held_out=2)))


def test_a_channel_of_different_tables_names_those_that_can_be_meant(job: Job, scratch: Path) -> None:
    job.put("train", "movies.csv", "movieId,title\n1,x\n")
    job.put("train", "ratings.csv", "userId,movieId,rating\n1,1,4\n")
    with pytest.raises(
        InputError, match=r"train/movies.csv holds no interactions \(movieId, title\), and .*ratings.csv can"
    ):
        split_in(job, scratch)
    (job.base / "input" / "data" / "train" / "movies.csv").unlink()
    job.put("train", "tags.csv", "userId,movieId,tag\n1,1,fun\n")
    with pytest.raises(InputError, match="so they are hardly parts of one table"):
        split_in(job, scratch)


def test_the_look_is_logged_before_the_training_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    job = small_job(tmp_path / "ml")
    assert TrainingJob(job.base).run() == 0
    said = [record.getMessage() for record in caplog.records]
    look = json.loads((job.run_directory / "config.json").read_text())["look"]
    assert look[0] == f"read: {job.base}/input/data/train/ratings.csv, {len(ROWS)} rows"
    assert said[:5] == look
    assert [line.partition(":")[0] for line in look] == ["read", "users and items", "columns", "left out", "held out"]


def test_hyperparameters_say_how_the_data_are_read(tmp_path: Path) -> None:
    reading = {
        "no_header": "true", "columns": "visitorid,event,itemid,stars,when", "separator": "::",
        "encoding": "latin-1", "skip_bad_rows": "true", "min_weight": "2", "sum_repeats": "true",
        "event_weights": "view=1,buy=10",
        "half_life": "90d", "weight_column": "stars", "timestamp_column": "when",
    }  # fmt: skip
    job = Job(tmp_path / "ml", **{**QUICK, **reading})
    rows = [
        (f"é{user}", ("view", "buy", "other")[time % 3], item, time % 4 + 1, 1_600_000_000 + time)
        for user, item, time in ROWS
    ]
    path = job.put("train", "events.dat", "")
    text = "".join("::".join(map(str, row)) + "\n" for row in [*rows, ("x", "view", "i1", "bad", 1_600_000_000)])
    path.write_bytes(text.encode("latin-1"))
    assert TrainingJob(job.base).run() == 0, job.failure
    config = json.loads((job.run_directory / "config.json").read_text())
    assert config["reading"]["event_weights"] == "view=1,buy=10"
    assert config["look"][3].count("(first: ") == 3
    assert "1 with a bad weight" in config["look"][3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user_id,item_id\na,x,3\n", "train.csv: line 2 has more fields than the header has names (2), separated by"),
        ("user_id,item_id\n,x\n", "train.csv, line 2: 'user_id' is empty; every row needs an id: correct it, or leave "
         "such rows out with skip_bad_rows"),
        ("who,item_id\na,x\n", "train.csv has no column 'user_id'; it has who, item_id. Name yours with user_column; "
         "for a file without a header give no_header and columns"),
        ("user_id,item_id\na,x\n", "train.csv holds one user only"),
    ],
)  # fmt: skip
def test_a_failure_names_the_channels_file_and_the_hyperparameter(tmp_path: Path, content: str, message: str) -> None:
    job = Job(tmp_path / "ml", **QUICK)
    job.write("inputdataconfig.json", {"train": {"TrainingInputMode": "Pipe"}})
    pipe = job.base / "input" / "data" / "train_0"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(content,))
    writer.start()
    assert TrainingJob(job.base).run() == 2
    writer.join()
    assert job.failure.startswith(message)
    packed = Job(tmp_path / "packed", **QUICK)
    packed.put("train", "x.csv.gz", "").write_bytes(gzip.compress(content.encode()))
    assert TrainingJob(packed.base).run() == 2
    assert packed.failure.startswith(f"{packed.base}/input/data/train/x.csv.gz{message.removeprefix('train.csv')}")


def test_a_failure_in_the_papers_format_names_the_channels_file(tmp_path: Path) -> None:
    job = Job(tmp_path / "ml", **QUICK)
    job.put("train", "ml.train.rating", "0\t1\t5\t1\n1\t2\t5\t1\n")
    job.put("train", "ml.test.rating", "0\t2\t5\n1\t1\t5\n")
    job.put("train", "ml.test.negative", "(0,2)\t3\n(1,1)\t3\n")
    assert TrainingJob(job.base).run() == 2
    assert f"{job.base}/input/data/train/ml.test." in job.failure
    assert "paper/" not in job.failure


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"held_out": "2"}, "held_out is 2, and the held-out items have a channel of their own: leave it out"),
        ({"split": "time"}, "split is time, and the held-out items have a channel of their own: leave it out"),
        ({"columns": "a,b"}, "a file without a header needs both no_header and columns"),
        ({"event_column": "e"}, "event_column needs event_weights, such as event_weights view=1"),
        ({"half_life": "9"}, "half_life is '9'; give a number with h, d, w or y"),
        ({"encoding": "klingon"}, "encoding is 'klingon', which is unknown"),
        ({"min_weight": "3"}, "has no column 'weight'"),
    ],
)
def test_options_of_reading_that_cannot_apply_fail_the_job(
    tmp_path: Path, values: dict[str, str], message: str
) -> None:
    job = small_job(tmp_path / "ml", **values)
    job.put("test", "test.csv", table(ROWS[::9]))
    assert TrainingJob(job.base).run() == 2
    assert message in job.failure


def test_hyperparameters_say_how_the_data_are_split(tmp_path: Path) -> None:
    job = Job(tmp_path / "ml", **{**QUICK, "split": "time", "test_share": "0.3", "split_seed": "7"})
    job.put("train", "ratings.csv", table([(user, item, time * 7919 % 10_007) for user, item, time in ROWS]))
    assert TrainingJob(job.base).run() == 0, job.failure
    config = json.loads((job.run_directory / "config.json").read_text())
    assert (config["split"], config["test_share"], config["split_seed"]) == ("time", 0.3, 7)
    assert "the latest 30 % of all" in config["look"][4]
    evaluation = json.loads((job.base / "output" / "data" / "evaluation.json").read_text())
    assert evaluation["held_out"] > 0


def earlier_output(folder: Path) -> Path:
    """The output.tar.gz of an earlier job."""
    job = small_job(folder / "earlier")
    assert TrainingJob(job.base).run() == 0
    with tarfile.open(folder / "output.tar.gz", "w:gz") as archive:
        archive.add(job.base / "output" / "data", ".")
    return folder / "output.tar.gz"


@pytest.mark.parametrize("packed", [True, False])
def test_a_job_starts_with_the_model_of_an_earlier_one(
    tmp_path: Path, packed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    output = earlier_output(tmp_path)
    job = small_job(tmp_path / "ml")
    channel = job.base / "input" / "data" / "model"
    channel.mkdir(parents=True)
    if packed:
        (channel / "output.tar.gz").write_bytes(output.read_bytes())
    else:
        (tmp_path / "earlier" / "output" / "data" / "run").rename(channel / "run")
    assert TrainingJob(job.base).run() == 0
    settings = json.loads((job.run_directory / "config.json").read_text())
    assert Path(settings["init"]).name == "run"
    assert "refitting to all" in capfd.readouterr().err
    assert (job.base / "model" / "ncf_model" / "1" / "model.pt").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"weights.pt": b""}, "channel 'model' holds no run; give it the output.tar.gz of an earlier job"),
        ({"a/result.json": b"{}", "b/result.json": b"{}"}, "channel 'model' holds 2 runs; give it"),
        ({"output.tar.gz": b"x"}, "channel 'model': output.tar.gz cannot be unpacked"),
    ],
)
def test_a_channel_without_the_run_of_an_earlier_job_is_refused(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    job = small_job(tmp_path / "ml")
    for name, content in files.items():
        path = job.base / "input" / "data" / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert TrainingJob(job.base).run() == 2
    assert message in job.failure


def test_an_earlier_job_of_another_size_is_refused(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml", num_factors="8")
    channel = job.base / "input" / "data" / "model"
    channel.mkdir(parents=True)
    earlier_output(tmp_path).rename(channel / "output.tar.gz")
    assert TrainingJob(job.base).run() == 2
    assert "init is model/0/run, a run with num_factors 4, and here num_factors is 8" in job.failure
