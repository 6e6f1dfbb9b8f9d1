"""How `ncf train`, `prepare` and `evaluate` take their data, and what they say about them."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ncf.commands.main import cli
from ncf.errors import InputError
from tests.conftest import BIN
from tests.support.jobs import ROWS, table

QUICK = ("--model", "gmf", "--epochs", "1", "--num-factors", "4", "--negatives", "2")
LOOK = ("read: ", "users and items: ", "columns: ", "left out: ", "held out: ")


def ran(*arguments: object, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: object) -> str:
    with pytest.raises(InputError) as caught:
        ran(*arguments)
    return str(caught.value)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "ratings.csv"
    path.write_text(table(ROWS))
    return path


def test_the_look_is_said_before_anything_else_and_kept_in_the_run(csv: Path, tmp_path: Path) -> None:
    said = ran("train", "--data", csv, "--output", tmp_path / "run", *QUICK).stderr.splitlines()
    assert all(line.startswith(begin) for begin, line in zip(LOOK, said, strict=False))
    assert said[0] == f"read: {csv}, {len(ROWS)} rows"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["look"] == said[:5]
    made = ran("prepare", "--data", csv, "--output", tmp_path / "prepared").stderr.splitlines()
    assert said[:5] == [line for line in made if line.startswith(LOOK)]
    again = ran("train", "--data", tmp_path / "prepared", "--output", tmp_path / "two", *QUICK).stderr.splitlines()
    assert again[:5] == said[:5]


def test_several_files_are_taken_by_every_command(csv: Path, tmp_path: Path) -> None:
    lines = csv.read_text().splitlines(keepends=True)
    one, two, folder = tmp_path / "1.csv", tmp_path / "2.csv", tmp_path / "parts"
    one.write_text("".join(lines[:90]))
    two.write_text("".join([lines[0], *lines[90:]]))
    folder.mkdir()
    for path in (one, two):
        (folder / path.name).write_text(path.read_text())
    both = ("--data", one, "--data", two)
    trained = [
        ran("train", *data, "--output", tmp_path / f"run{number}", *QUICK).stderr.splitlines()
        for number, data in enumerate([("--data", csv), both, ("--data", folder)])
    ]
    assert f"read: 2 files, {len(ROWS)} rows" == trained[1][0] == trained[2][0]
    assert trained[0][1:5] == trained[1][1:5] == trained[2][1:5]
    evaluated = [ran("evaluate", "--run", tmp_path / "run0", *data, "--json") for data in (("--data", csv), both)]
    assert evaluated[0].stdout == evaluated[1].stdout
    assert "WARNING" not in evaluated[1].stderr
    made = ran("prepare", *both, "--output", tmp_path / "prepared").stderr
    assert f"read: 2 files, {len(ROWS)} rows" in made


def test_standard_input_and_a_pipe_of_a_shell(csv: Path, tmp_path: Path) -> None:
    packed = tmp_path / "ratings.csv.gz"
    packed.write_bytes(gzip.compress(csv.read_bytes()))
    prepare = f"{BIN}/ncf prepare --output {tmp_path}"
    commands = f"{prepare}/one --data <(zcat {packed}) && {prepare}/two --data - < {packed}"
    done = subprocess.run(["bash", "-c", commands], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert f"read: standard input, {len(ROWS)} rows" in done.stderr
    assert done.stderr.count(f", {len(ROWS)} rows") == 2


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("who,item_id,timestamp\na,x,1\n", "{csv} has no column 'user_id'; it has who, item_id, timestamp"),
        ("a,b\n1,2,3\n", "{csv}: line 2 has more fields than the header has names (2), separated by comma: '1,2,3'"),
        ("user_id,item_id,timestamp\na,,1\n", "{csv}, line 2: 'item_id' is empty; every row needs an id"),
        (
            "user_id,item_id,timestamp\na,x,soon\n",
            "{csv}, line 2: 'timestamp' is 'soon', which is neither a number nor a",
        ),
        ("1,2,3\n1,2,3\n", "{csv} seems to have no header: line 1 is '1,2,3'"),
        ("user_id,item_id\na,é\n", "{csv} is not UTF-8: line 2 has the byte 0xe9"),
        ("user_id,userId2\n", "{csv} has no rows; give a file with a header and rows"),
    ],
)
def test_evaluate_recommends_no_option_that_it_does_not_have(csv: Path, tmp_path: Path, text: str, begin: str) -> None:
    run = tmp_path / "run"
    ran("train", "--data", csv, "--output", run, *QUICK)
    csv.write_bytes(text.encode("latin-1"))
    message = refused("evaluate", "--run", run, "--data", csv)
    assert message.startswith(begin.format(csv=csv))
    own = {name for option in cli.commands["evaluate"].params for name in option.opts}
    assert {word.strip(".,;:") for word in message.split() if word.startswith("--")} <= own
    if "no rows" not in text and "has no rows" not in begin:
        assert message.endswith(f"; the data are read as those of {run} were, so give data of the same form")


def test_options_that_cannot_apply_are_refused(csv: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    ran("prepare", "--data", csv, "--output", folder)
    train = ("train", "--output", tmp_path / "run", "--data")
    for option in (("--weight-column", "w"), ("--min-weight", "3"), ("--separator", ";"), ("--held-out", "2"),
                   ("--skip-bad-rows",), ("--half-life", "9d"), ("--min-user-interactions", "2")):  # fmt: skip
        assert "which has its own split: " in refused(*train, folder, *option)
    assert "needs --event-weights" in refused(*train, csv, "--event-column", "e")
    assert "no column of times" not in refused(*train, csv, "--min-weight", "4")
    assert "needs both --no-header and --columns" in refused(*train, csv, "--columns", "a,b,c")
    assert "has a split of its own, which ncf train takes as it is" in refused(
        "prepare", "--data", folder, "--output", tmp_path / "again"
    )
    assert not (tmp_path / "run").exists()
