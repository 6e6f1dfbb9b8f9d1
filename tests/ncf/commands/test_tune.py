"""The `ncf tune` command: its options, and the mistakes that it answers in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ncf.commands.main import main
from ncf.commands.train import train
from ncf.commands.tune import tune


def said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", ["ncf", "tune", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    text: str = capfd.readouterr().err
    assert "Traceback" not in text
    return text


def test_its_options_are_those_of_train_but_for_what_a_search_cannot_have() -> None:
    ours, theirs = ({option.name for option in command.params} for command in (tune, train))
    assert ours - theirs == {"trials"}
    assert {"data", "model", "l2", "validation", "held_out", "user_column", "half_life", "seed"} <= ours
    several = {"pretrain", "members", "among_all_members", "softmax_members", "closed_form", "fold_factors"}
    assert theirs - ours >= several | {"resume", "checkpoints", "tensorboard"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trials", "0"), "ncf: trials is 0; it must be at least 1"),
        (("--max-time", "soon"), "ncf: --max-time is 'soon'; give seconds"),
        (("--validation", "0"), "ncf: validation is 0, so there are no items to compare trials by"),
        (("--preset", "ml-1m-best"), "ncf: validation is 0"),
        (("--user-column", "who"), "no column 'who'"),
        (("--members", "2"), "No such option"),
    ],
)
def test_a_mistake_is_one_line(
    food_csv: Path, tmp_path: Path, options: tuple[str, ...], message: str,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    text = said(capfd, monkeypatch, "--data", food_csv, "--output", tmp_path / "search", *options)
    assert message in text
    assert list(tmp_path.iterdir()) == []


def test_without_optuna_it_says_what_to_install(
    food_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)  # to Python it is not installed
    text = said(capfd, monkeypatch, "--data", food_csv, "--output", tmp_path / "search")
    wanted = "`ncf tune` searches with Optuna, which is not installed here: pip install 'ncf-triton[tune]'"
    assert text == f"ncf: {wanted}\n"
    assert list(tmp_path.iterdir()) == []
