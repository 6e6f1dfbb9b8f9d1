"""What `ncf inspect` proposes works as it is pasted, and reads all of the data."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ncf.commands.main import cli
from ncf.commands.reading import take_reading
from ncf.data.load import load_split
from ncf.data.splits import Split, SplitOptions
from ncf.errors import InputError
from ncf.files.columns import SYNONYMS
from tests.ncf.commands.shapes import HOPELESS, SHAPES, Shape

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
COMMANDS = re.findall(r"^    (ncf .+)$", PAGE, re.MULTILINE)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> str:
    """What a command prints that succeeds; raises what `main` makes a line of."""
    result = CliRunner().invoke(cli, words)
    if result.exception:
        raise result.exception
    return result.output


def split_of(command: str) -> Split:
    """The split that a command `ncf train …` or `ncf prepare …` makes of its data."""
    _, name, *words = shlex.split(command)
    given: dict[str, Any] = cli.commands[name].make_context(name, words).params
    columns, reading = take_reading(given)
    names = ("held_out", "min_user_interactions", "min_item_interactions")
    return load_split(given["data"], SplitOptions(columns, reading, **{name: given[name] or 1 for name in names}))


def check(split: Split, shape: Shape) -> None:
    assert (split.train.num_users, split.train.num_items) == (6, 12)
    assert len(split.train) + len(split.held_out) == shape.pairs
    if shape.held_out != "own":
        assert shape.held_out in split.look[4]


@pytest.mark.parametrize("name", SHAPES)
def test_the_proposed_command_reads_the_data(name: str, tmp_path: Path) -> None:
    SHAPES[name].write(tmp_path)
    printed = run("inspect", "--data", name)
    command = printed.splitlines()[-1]
    assert command.startswith("ncf train --data ")
    split = split_of(command)
    check(split, SHAPES[name])
    for line in split.look:
        assert line in printed
    assert ("a folder with a split of its own" in printed) == (SHAPES[name].held_out == "own")


@pytest.mark.parametrize("name", ["ratings.dat", "BX-Book-Ratings.csv", "orders_export.csv"])
def test_the_proposed_command_trains(name: str, tmp_path: Path) -> None:
    SHAPES[name].write(tmp_path)
    command = run("inspect", "--data", name).splitlines()[-1]
    assert "wrote runs/first" in run(*shlex.split(command)[1:], "--epochs", "1", "--device", "cpu")


@pytest.mark.parametrize("name", HOPELESS)
def test_without_a_way_to_read_the_data_the_error_says_why(name: str, tmp_path: Path) -> None:
    content, why = HOPELESS[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=re.escape(why)) as caught:
        run("inspect", "--data", name)
    assert "\n" not in str(caught.value)


def test_the_command_ends_with_one_line_and_exit_code_2_and_never_loads_torch(tmp_path: Path) -> None:
    SHAPES["u.data"].write(tmp_path)
    (tmp_path / "scan.pdf").write_bytes(HOPELESS["paper.csv"][0])  # type: ignore[arg-type]
    code = "import sys; from ncf.commands.main import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    done = [
        subprocess.run([sys.executable, "-c", code, "inspect", "--data", name], capture_output=True, text=True)
        for name in ("u.data", "scan.pdf")
    ]
    assert [each.returncode for each in done] == [0, 2]
    assert [each.stdout.splitlines()[-1] for each in done] == ["False", "False"]
    assert done[1].stderr == "ncf: scan.pdf is a PDF; give the table as CSV or Parquet\n"


def test_options_that_are_given_are_kept(tmp_path: Path) -> None:
    SHAPES["events.csv"].write(tmp_path)
    weights = "view=1,addtocart=3,transaction=10"
    printed = run("inspect", "--data", "events.csv", "--event-weights", weights, "--half-life", "90d")
    assert printed.endswith(
        f"ncf train --data events.csv --output runs/first --event-weights {weights} --half-life 90d\n"
    )
    assert "hint:" not in printed
    assert run("inspect", "--data", "events.csv").count("hint: rows of every 'event' count alike; --event-weights") == 1


def test_a_prepared_folder_needs_no_options(tmp_path: Path) -> None:
    SHAPES["ratings.dat"].write(tmp_path)
    words = shlex.split(run("inspect", "--data", "ratings.dat").splitlines()[-1])[4:]
    run("prepare", "--data", "ratings.dat", "--output", "prepared", *words[2:])
    printed = run("inspect", "--data", "prepared")
    assert printed.startswith("data: prepared, a folder with a split of its own\nread: ratings.dat, 48 rows\n")
    assert printed.endswith("\nncf train --data prepared --output runs/first\n")


def test_what_can_be_read_only_once_is_refused() -> None:
    with pytest.raises(InputError, match="- can be read only once"):
        run("inspect", "--data", "-")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_read_the_data(command: str, tmp_path: Path) -> None:
    words = shlex.split(command)
    for name in (words[place + 1] for place, word in enumerate(words) if word == "--data"):
        if not (tmp_path / name).exists():
            SHAPES[name.rstrip("/")].write(tmp_path)
    if words[1] == "inspect":
        run(*words[1:])
    else:
        split = split_of(command)
        assert split.train.num_users == 6
        assert 9 < split.train.num_items <= 12  # with --min-weight some items are left out


def test_the_page_shows_what_is_printed(tmp_path: Path) -> None:
    SHAPES["ratings.dat"].write(tmp_path)
    shown = "".join(f"    {line}\n" if line else "\n" for line in run("inspect", "--data", "ratings.dat").splitlines())
    assert shown in PAGE, f"docs/data.md should have:\n{shown}"


def test_the_page_has_all_names_and_options() -> None:
    for what, words in SYNONYMS.items():
        assert f"  - {what}: {', '.join(f'`{word}`' for word in words.split())}\n" in PAGE
    options = {option for parameter in cli.commands["inspect"].params for option in parameter.opts}
    assert options - set(re.findall(r"--[a-z-]+", PAGE[PAGE.index("## Options") :])) == set()
