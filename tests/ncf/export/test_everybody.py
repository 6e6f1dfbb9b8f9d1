"""`ncf recommend`: everybody's recommendations in one file, whatever interrupts it."""

from __future__ import annotations

import errno
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

import ncf.export.everybody
from ncf import Recommender
from ncf.commands.main import cli
from ncf.errors import InputError
from ncf.export.everybody import recommend_everybody
from ncf.export.ranker import Conditions, Ranker
from ncf.training.run_directory import Run


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncf.export.everybody, "USERS_A_FILE", 500)


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["recommend", *map(str, words)])


def expected(run: Run, k: int = 10, **conditions: object) -> pl.DataFrame:
    found = Recommender.load(run.path).recommend(run.users.ids.to_list(), k=k, **conditions)  # type: ignore[arg-type]
    return found.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id")).select(
        "user_id", "rank", "item_id", "score"
    )


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_everybody_gets_what_recommend_gives(food_run: Run, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"all{suffix}"
    result = run("--run", food_run.path, "--output", output)
    assert result.exit_code == 0, result.output
    assert "the 10 best items of 1,200 users" in result.stdout
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix](output)
    whole = expected(food_run)
    assert read.drop("score").cast({"rank": pl.Int32}).equals(whole.drop("score"))
    assert read["score"].to_list() == pytest.approx(whole["score"].to_list(), abs=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_parts_make_the_whole(food_run: Run, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        run("--run", food_run.path, "--output", tmp_path / f"{number}.parquet", "--part", f"{number}/3", "--k", 3)
    parts = pl.concat(pl.read_parquet(tmp_path / f"{number}.parquet") for number in (1, 2, 3))
    assert parts.drop("score").equals(expected(food_run, 3).drop("score"))


def test_only_some_users_and_items(food_run: Run, food_items_file: Path, tmp_path: Path) -> None:
    users, exclude = tmp_path / "users.csv", tmp_path / "exclude.csv"
    users.write_text("user_id\nu18\nstranger\nu17\n")
    exclude.write_text("item_id\nsoup-06\n")
    output = tmp_path / "some.csv"
    words = ["--users", users, "--exclude", exclude, "--items", food_items_file, "--include-seen"]
    result = run("--run", food_run.path, "--output", output, *words, "--where", "kind=soup", "--where", "even=true")
    assert result.exit_code == 0, result.output
    found = pl.read_csv(output)
    assert found["user_id"].unique(maintain_order=True).to_list() == ["u18", "stranger", "u17"]
    model = Recommender.load(food_run.path, items=food_items_file)
    where = {"kind": "soup", "even": True}
    same = model.recommend(["u18", "stranger", "u17"], where=where, exclude=["soup-06"], exclude_seen=False)
    assert found["item_id"].to_list() == same["item_id"].to_list()


def test_an_interrupted_run_goes_on(food_run: Run, tmp_path: Path) -> None:
    output, ranker, begun = tmp_path / "all.parquet", Ranker(food_run), []

    def interrupt(done: int, total: int) -> None:
        if done > 600:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recommend_everybody(ranker, output, None, 10, Conditions(), (1, 1), interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["all.parquet.parts"]
    recommend_everybody(ranker, output, None, 10, Conditions(), (1, 1), lambda done, total: begun.append(done))
    assert min(begun) >= 500  # the first file was there
    assert pl.read_parquet(output).drop("score").equals(expected(food_run).drop("score"))


def test_what_is_whole_stays_on_a_full_disk(food_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, output = pl.DataFrame.write_csv, tmp_path / "all.csv"

    def full(frame: pl.DataFrame, path: Path, **more: bool) -> None:
        write(frame, path, **more)  # type: ignore[call-overload]
        if not more["include_header"]:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_csv", full)
    result = run("--run", food_run.path, "--output", output)
    assert isinstance(result.exception, InputError)
    assert "No space left on device; what is whole stays in" in str(result.exception)
    assert sorted(path.name for path in (tmp_path / "all.csv.parts").iterdir()) == [
        "000000000000.csv",
        "made-by-ncf-recommend",
    ]
    monkeypatch.undo()
    monkeypatch.setattr(ncf.export.everybody, "USERS_A_FILE", 500)
    assert run("--run", food_run.path, "--output", output).exit_code == 0
    assert len(pl.read_csv(output)) == 12_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "a.txt"], "a.txt ends in '.txt'; choose .parquet, .csv, .jsonl"),
        (["--output", "a.csv", "--part", "4/3"], "part is '4/3'; give a part and the number of parts, such as 3/16"),
        (["--output", "a.csv", "--k", "0"], "k is 0; it must be at least 1"),
        (["--output", "a.csv", "--where", "kind"], "where is 'kind'; give a column and a value"),
        (["--output", "a.csv", "--where", "kind=soup"], "where names 'kind', which the items have no column for"),
        (["--output", "there.csv"], "there.csv exists already; choose another --output, or delete it"),
        (["--output", "other.csv"], "holds something else, or was begun with another run or other options"),
        (["--output", "a.csv", "--users", "none.csv"], "none.csv does not exist; --users takes"),
    ],
)
def test_a_mistake_is_said(
    food_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.csv").touch()
    Path("other.csv.parts").mkdir()
    result = run("--run", food_run.path, *words)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
