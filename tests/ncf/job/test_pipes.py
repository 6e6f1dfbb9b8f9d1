"""Channels in pipe mode, whose objects come one after another (CONTRACT C99)."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path

import pytest

from ncf.data.load import load_split
from ncf.data.splits import Split, SplitOptions
from ncf.files.reading import Reading
from ncf.training.config import TrainConfig
from tests.ncf.job.splits import gathered, held, same, split_in, trained_on
from tests.support.jobs import ROWS, Job, table


def in_pipe(job: Job, content: bytes, kind: str = "text/csv") -> threading.Thread:
    job.write("inputdataconfig.json", {"train": {"TrainingInputMode": "Pipe", "ContentType": kind}})
    pipe = job.base / "input" / "data" / "train_0"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    thread = threading.Thread(target=pipe.write_bytes, args=(content,))
    thread.start()
    return thread


def turned(rows: list[tuple[str, str, int]]) -> str:
    """A table with the columns in another order."""
    return "item_id,user_id,timestamp\n" + "".join(f"{item},{user},{time}\n" for user, item, time in rows)


def test_objects_of_a_pipe_may_have_their_columns_in_any_order(job: Job, scratch: Path, one_file: Split) -> None:
    objects = table(ROWS[:50]) + turned(ROWS[50:90]) + table(ROWS[90:100]) + turned(ROWS[100:])
    writer = in_pipe(job, objects.encode())
    assert same(split_in(job, scratch), one_file)
    writer.join()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_pipe_without_headers_keeps_every_row(job: Job, scratch: Path, ending: str) -> None:
    rows = [("1", "2", 5), ("11", "2", 5), ("1", "3", 6), ("2", "1", 5), ("1", "2", 5), ("11", "4", 7)]
    writer = in_pipe(job, "".join(f"{user},{item},{time}{ending}" for user, item, time in rows).encode())
    config = TrainConfig(split=SplitOptions(reading=Reading(no_header=True, names="user_id,item_id,timestamp")))
    split = load_split(gathered(job, scratch, config).paths, config.split)
    writer.join()
    assert trained_on(split) | held(split, split.held_out) == {(int(user), int(item)) for user, item, _ in rows}
    assert "6 rows" in split.look[0]


@pytest.mark.parametrize("objects", [1, 2])
def test_a_pipe_of_compressed_objects(job: Job, scratch: Path, one_file: Split, objects: int) -> None:
    parts = [table(ROWS)] if objects == 1 else [table(ROWS[:50]), table(ROWS[50:])]
    writer = in_pipe(job, b"".join(gzip.compress(part.encode()) for part in parts))
    assert same(split_in(job, scratch), one_file)
    writer.join()


def test_a_pipe_of_json_lines_keeps_equal_rows(job: Job, scratch: Path) -> None:
    lines = [json.dumps({"user_id": user, "item_id": item}) + "\n" for user, item, _ in ROWS]
    writer = in_pipe(job, "".join([*lines, lines[0], lines[0]]).encode(), "application/jsonlines")
    config = SplitOptions(reading=Reading(sum_repeats=True))
    split = load_split(gathered(job, scratch).paths, config)
    writer.join()
    assert f"{len(ROWS) + 2} rows" in split.look[0]
    assert split.train.weight is not None
    assert split.train.weight.sum() + len(split.held_out) in (len(ROWS) + 2, len(ROWS))
