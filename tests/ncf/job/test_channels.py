"""The channels of a training job (CONTRACT C98, C99, C105): what is in them becomes one split."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import polars as pl
import pytest

from ncf.data.load import load_split
from ncf.data.prepare import prepare
from ncf.data.splits import Split, SplitOptions
from ncf.errors import InputError
from ncf.job.channels import read_channels
from ncf.job.data import JobData, gather
from ncf.training.config import TrainConfig
from tests.ncf.job.splits import gathered, held, pairs, same, split_in, trained_on
from tests.support.jobs import HEADER, ROWS, Job, table

Pairs = set[tuple[object, object]]


def test_c099_one_file(job: Job, scratch: Path) -> None:
    path = job.put("training", "deep/in/ratings.csv", table(ROWS))  # the SDK's own name of the only channel
    job.put("training", "README.txt", "not data")
    job.put("training", "_SUCCESS", "")
    job.put("training", ".part.csv", "not whole yet")
    assert gathered(job, scratch) == JobData([path], None)


def test_c099_parts_are_one_table(job: Job, scratch: Path, one_file: Split) -> None:
    for number in range(3):
        job.put("train", f"part-{number}.csv", table(ROWS[number::3]))
    assert same(split_in(job, scratch), one_file)


def test_c098_files_without_a_telling_end_are_read_by_content_type(job: Job, scratch: Path, one_file: Split) -> None:
    job.write("inputdataconfig.json", {"train": {"ContentType": "text/csv; header=present"}})
    job.put("train", "part-0", table(ROWS[:50]))
    job.put("train", "part-1", table(ROWS[50:]))
    assert same(split_in(job, scratch), one_file)


def test_c098_a_folder_of_parquet(job: Job, scratch: Path, one_file: Split) -> None:
    folder = job.put("train", "x", "").parent
    (folder / "x").unlink()
    for number in range(2):
        frame = pl.DataFrame(ROWS[number::2], schema=["user_id", "item_id", "timestamp"], orient="row")
        frame.write_parquet(folder / f"part-{number}.parquet")
    job.write("inputdataconfig.json", {"train": {"TrainingInputMode": "FastFile", "S3DistributionType": None}})
    assert same(split_in(job, scratch), one_file)


def feed(pipe: Path, text: str) -> threading.Thread:
    """A pipe of SageMaker's: the objects under a prefix, one after another."""
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    thread = threading.Thread(target=pipe.write_text, args=(text,))
    thread.start()
    return thread


def test_c099_a_pipe_is_read_once(job: Job, scratch: Path, one_file: Split) -> None:
    job.write("inputdataconfig.json", {"train": {"TrainingInputMode": "Pipe"}})
    objects = (table(ROWS[:50]), table(ROWS[50:100]).removesuffix("\n"), table(ROWS[100:]))
    writer = feed(job.base / "input" / "data" / "train_0", "".join(objects))
    assert same(split_in(job, scratch), one_file)
    writer.join()


def test_c099_a_pipe_of_tab_separated_values(job: Job, scratch: Path, one_file: Split) -> None:
    options = {"TrainingInputMode": "Pipe", "ContentType": "text/tab-separated-values"}
    job.write("inputdataconfig.json", {"train": options})
    writer = feed(job.base / "input" / "data" / "train_0", table(ROWS).replace(",", "\t"))
    assert same(split_in(job, scratch), one_file)
    writer.join()


def test_c105_the_environment_says_where_a_channel_is(job: Job, scratch: Path, tmp_path: Path, one_file: Split) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "ratings.csv").write_text(table(ROWS))
    assert same(split_in(job, scratch, SM_CHANNEL_TRAIN=str(other)), one_file)
    (other / "test.csv").write_text(table(ROWS[::9]))
    found = split_in(job, scratch, SM_CHANNEL_TRAIN=str(other / "ratings.csv"), SM_CHANNEL_TEST=str(other / "test.csv"))
    assert held(found, found.held_out) == pairs(ROWS[::9])


def test_a_test_channel_is_what_is_held_out(job: Job, scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of each user the last item; unknown ones are left out; what stands in both channels is not trained on."""
    test = [row for row in ROWS if row[1] in ("i35", "i36", "i37")]
    train = [row for row in ROWS if row not in test[3:]]
    job.put("train", "a.csv", table(train[::2]))
    job.put("train", "b.csv", table(train[1::2]))
    job.put("test", "test.csv", table([*test, ("stranger", "i0", 1), ("u1", "new", 2), ("u1", "newer", 3)]))
    split = split_in(job, scratch)
    known = [row for row in test if row[1] in {item for _, item, _ in train}]
    assert held(split, split.held_out) == pairs(known)
    assert trained_on(split) == pairs(train) - pairs(test)
    assert "3 of 21 held-out interactions are left out" in caplog.text.replace(f"of {len(test) + 3} ", "of 21 ")
    assert "lack the users of 1 and the items of 2" in caplog.text
    assert split.validation is not None
    assert len(split.validation) == 30
    latest = {user: item for user, item, _ in sorted(set(train) - set(test), key=lambda row: row[2])}
    assert held(split, split.validation) == set(latest.items())


def test_a_test_channel_has_to_do_with_the_data(job: Job, scratch: Path) -> None:
    job.put("train", "a.csv", table(ROWS))
    job.put("test", "test.csv", table([("stranger", "i0", 1)]))
    with pytest.raises(InputError, match=r"test.csv: none of the 1 held-out interactions is of a user"):
        gathered(job, scratch)
    job.put("test", "test.csv", table(ROWS))
    with pytest.raises(InputError, match=r"all interactions of a.csv are held out as well"):
        gathered(job, scratch)
    assert list(scratch.iterdir()) == []


def test_least_numbers_of_interactions_hold_beside_a_test_channel(job: Job, scratch: Path) -> None:
    job.put("train", "a.csv", table([*ROWS, ("rare", "i1", 5)]))
    job.put("test", "test.csv", table([("u1", "i2", 1), ("rare", "i3", 2)]))
    config = TrainConfig(split=SplitOptions(min_user_interactions=2))
    split = load_split(gathered(job, scratch, config).paths, config.split)
    assert held(split, split.held_out) == {("u1", "i2")}
    assert trained_on(split) == pairs(ROWS)


def paper(job: Job, train: str, test: str) -> None:
    job.put(
        train, "ml.train.rating", "".join(f"{u}\t{i}\t1\t{t}\n" for u in range(4) for t, i in enumerate((u, u + 1)))
    )
    job.put(test, "ml.test.rating", "".join(f"{u}\t{u + 2}\t1\t9\n" for u in range(4)))
    job.put(test, "ml.test.negative", "".join(f"({u},{u + 2})\t7\t8\n" for u in range(4)))


@pytest.mark.parametrize("test", ["train", "test"])
def test_the_papers_format_in_one_channel_or_two(job: Job, scratch: Path, test: str) -> None:
    paper(job, "train", test)
    split = split_in(job, scratch)
    assert held(split, split.held_out) == {(user, user + 2) for user in range(4)}


def test_a_folder_of_ncf_prepare(job: Job, scratch: Path, tmp_path: Path, one_file: Split) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text(table(ROWS))
    (job.base / "input" / "data" / "train").mkdir(parents=True)
    prepare([file], job.base / "input" / "data" / "train" / "prepared")
    assert gathered(job, scratch).paths[0].name == "prepared"
    assert same(split_in(job, scratch), one_file)
    job.put("test", "test.csv", table(ROWS[:9]))
    with pytest.raises(InputError, match="has its own held-out items; leave out channel 'test'"):
        gathered(job, scratch)


def test_a_table_of_items(job: Job, scratch: Path) -> None:
    job.put("train", "a.csv", table(ROWS))
    path = job.put("items", "items.tsv", "item_id\ttitle\ni1\tOne\n")
    assert gathered(job, scratch).items == path
    job.put("items", "more.tsv", "item_id\ttitle\ni2\tTwo\n")
    with pytest.raises(InputError, match="channel 'items' holds 2 tables; keep one"):
        gathered(job, scratch)


def test_channels_that_nothing_reads_are_named(job: Job, scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    job.put("train", "a.csv", table(ROWS))
    job.put("validation", "b.csv", table(ROWS))
    gathered(job, scratch)
    names = "train, training, test, items, model"
    assert f"unknown channels that are not read: validation; the names are {names}" in caplog.text


PIPE = {"TrainingInputMode": "Pipe"}


@pytest.mark.parametrize(
    ("config", "files", "message"),
    [
        ({}, {"data/a.csv": HEADER}, "has no channel named train or training (found: data); name the input channel"),
        ({"train": {}}, {}, "channel 'train' is not there: {data}/train does not exist"),
        ({}, {"train/_SUCCESS": ""}, "channel 'train' is empty: {data}/train holds no file"),
        ({}, {"train/a.xlsx": ""}, "compressed or not (found: a.xlsx); name files so, or"),
        ({}, {"train/a.csv": HEADER, "train/b.tsv": HEADER}, "holds tables of several kinds (a.csv, b.tsv); keep one"),
        ({}, {"train/a.csv": HEADER, "training/a.csv": HEADER}, "channels train and training are both given"),
        ({"train": {"ContentType": "application/x-recordio"}}, {"train/a": ""}, "has content type 'application/x-rec"),
        ({"train": {"TrainingInputMode": "Stream"}}, {}, "has TrainingInputMode 'Stream'; choose File, FastFile, Pipe"),
        ({"train": {"RecordWrapperType": "RecordIO"}}, {}, "has RecordWrapperType 'RecordIO'; choose None"),
        ({"train": PIPE}, {}, "channel 'train' is not there: {data}/train_0, its pipe, does not exist"),
        ({"train": {**PIPE, "ContentType": "application/x-parquet"}}, {}, "is a pipe of Parquet"),
        ({"train": "File"}, {}, "channel 'train' must be an object"),
        ({}, {"train/a.train.rating": "", "test/a.csv": HEADER}, "paper's format, and channel 'test' holds no"),
        ({}, {"train/a/prepared.json": "", "train/b/prepared.json": ""}, "holds 2 folders of `ncf prepare`; keep one"),
    ],
)  # fmt: skip
def test_c101_a_channel_that_cannot_be_read_is_named(
    job: Job, scratch: Path, config: dict[str, object], files: dict[str, str], message: str
) -> None:
    job.write("inputdataconfig.json", config)
    for name, text in files.items():
        channel, _, file = name.partition("/")
        job.put(channel, file, text)
    with pytest.raises(InputError) as caught:
        gathered(job, scratch)
    assert message.format(data=job.base / "input" / "data") in str(caught.value)


def test_c098_hosts_need_all_of_the_data(job: Job, scratch: Path) -> None:
    job.write("inputdataconfig.json", {"train": {"S3DistributionType": "ShardedByS3Key"}})
    job.put("train", "part-0.csv", table(ROWS))
    channels = read_channels(job.base, {})
    assert gather(channels, TrainConfig(), scratch, num_hosts=1)
    with pytest.raises(InputError, match="each of 2 hosts has another part of it, and each needs all; choose FullyRep"):
        gather(channels, TrainConfig(), scratch, num_hosts=2)


@pytest.mark.parametrize("validation", [0, 2])
def test_parts_leave_the_choice_of_epoch_as_one_file_does(
    job: Job, scratch: Path, one_file: Split, validation: int
) -> None:
    for number in range(3):
        job.put("train", f"part-{number}.csv", table(ROWS[number::3]))
    data = gathered(job, scratch, TrainConfig(validation=validation))
    split = load_split(data.paths)
    assert split.validation is None
    assert same(split, one_file)


def test_the_last_epoch_may_be_kept_beside_a_test_channel(job: Job, scratch: Path) -> None:
    job.put("train", "a.csv", table(ROWS))
    job.put("test", "test.csv", table(ROWS[::9]))
    split = load_split(gathered(job, scratch, TrainConfig(validation=0)).paths)
    assert held(split, split.held_out) == pairs(ROWS[::9])
    assert len(split.train) == len(ROWS) - len(ROWS[::9])
    with pytest.raises(InputError, match="validation is 2; where held-out items have a channel of their own"):
        gathered(job, scratch, TrainConfig(validation=2))
