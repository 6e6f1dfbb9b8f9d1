from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ncf.commands.main import cli
from ncf.errors import InputError
from ncf.evaluation import plots
from ncf.evaluation.page import check_writable, page, verdict
from ncf.training.run_directory import Run, read_epochs

ABOUT = {"run": "runs/a", "data": "a.csv", "evaluated": "2026-11-21 12:00 UTC"}
EPOCH = {"epoch": 1, "loss": 0.5, "samples_per_second": 1.0, "seconds": 1.0}
PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


@pytest.fixture(scope="module", autouse=True)
def small_pictures() -> Iterator[None]:
    """Drawing takes half of the time of these tests at the resolution that a user gets."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plots, "DOTS_PER_INCH", 40)
        yield


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the words of a page."""
    monkeypatch.setattr(plots, "draw", lambda document, epochs: [])


@pytest.fixture(scope="module")
def written(food_run: Run, food_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, str]:
    """What `ncf evaluate --report` writes, as JSON, HTML, and on standard error."""
    path = tmp_path_factory.mktemp("report") / "food.html"
    arguments = ["evaluate", "--run", str(food_run.path), "--data", str(food_csv), "--json", "--report", str(path)]
    ended = CliRunner().invoke(cli, arguments)
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout), path.read_text(), ended.stderr


def test_the_document_has_what_it_always_had_and_more(written: tuple[dict[str, Any], str, str]) -> None:
    document, _, stderr = written
    assert (document["users"], document["held_out"], document["model_kind"]) == (1200, 1200, "neumf")
    for name in ("model", "popularity", "ease", "ials"):
        assert set(document[name]) == {"sampled", "full", "lists"}
        assert list(document[name]["full"]) == ["HR@10", "NDCG@10", "MRR", "HR@20", "AUC"]
    assert set(document["margins"]) == {"popularity", "ease", "ials"}
    assert "food.html" in stderr


def test_the_page_needs_nothing_else(written: tuple[dict[str, Any], str, str]) -> None:
    html = PNG.sub("", written[1])
    assert not re.search(r"https?:|//\w|@import|url\(|<link|<script src", html)
    images = [b64decode(data) for data in PNG.findall(written[1])]
    assert len(images) == 2 * 8  # training, three in either protocol, coverage; each light and dark
    assert all(image.startswith(b"\x89PNG") for image in images)
    assert len(set(images)) == len(images)


def test_the_page_holds_the_figures_of_the_document(written: tuple[dict[str, Any], str, str]) -> None:
    document, html, _ = written
    shown = html[: html.index("<script")]
    for name in ("model", "popularity", "ease", "ials"):
        for protocol in ("sampled", "full"):
            for value in document[name][protocol].values():
                assert f"{value:.4f}" in shown
            for group in document["by_user_activity"][name][protocol]:
                assert f"{group['NDCG@10']:.4f}" in shown
        for metric in ("coverage", "Gini", "novelty", "diversity"):
            assert f"{document[name]['lists'][metric]:.4f}" in shown
    for ways in document["margins"].values():
        for protocol in ("sampled", "full"):
            for margin in ways[protocol].values():
                bounds = f"[{margin['low']:+.4f} to {margin['high']:+.4f}], z {margin['z']:.1f}"
                assert f"{margin['difference']:+.4f} {bounds}" in shown
        for metric in ("novelty", "diversity"):
            assert f"{ways['lists'][metric]['difference']:+.4f} ± " in shown
    assert "in one list" not in shown  # with one held-out item for each user that would be said twice
    embedded = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.DOTALL)
    assert embedded is not None
    assert json.loads(embedded[1]) == document
    assert all(word in shown for word in ("neumf on food.csv", "1,200 users", "num factors", "l2 18", "EASE", "iALS"))


@pytest.mark.usefixtures("without_pictures")
def test_names_are_text_and_not_html(written: tuple[dict[str, Any], str, str]) -> None:
    document = deepcopy(written[0])
    document["left_out"] = {"ease": "</script><b>"}
    html = page(document, [], {**ABOUT, "data": "<i>a.csv"}, {"schedule": "<u>"})
    assert not re.search(r"<i>|<u>|</script><b>", html)
    assert "EASE is left out: &lt;/script&gt;" in html
    assert "no figures of its epochs" in html


def test_the_verdict_says_who_is_ahead(written: tuple[dict[str, Any], str, str]) -> None:
    document = deepcopy(written[0])
    for lead, p, words in (
        (0.1, 0.06, "no clear difference"), (0.1, 0.04, "the model is ahead"), (-0.1, 0.04, "the model is behind"),
    ):  # fmt: skip
        for ways in document["margins"].values():
            ways["full"]["NDCG@10"] |= {"difference": lead, "p": p}
        sampled, full = verdict(document)
        assert "Sampled negatives" in sampled
        assert words in full


@pytest.mark.parametrize(
    "epochs",
    [
        [EPOCH, {**EPOCH, "epoch": 2}],
        [{**EPOCH, "hit_rate_at_10": None, "ndcg_at_10": None}],
        [{**EPOCH, "hit_rate_at_10": 0.5, "ndcg_at_10": 0.3, "stage": f"member {n}"} for n in range(8)],
    ],
    ids=["no quality", "quality is null", "many stages"],
)
def test_runs_with_other_epochs_have_a_plot(
    written: tuple[dict[str, Any], str, str], epochs: list[dict[str, Any]]
) -> None:
    known = written[0]  # the other plots know no epochs
    figures = {**known, "model": {"sampled": {}, "full": {}, "lists": known["model"]["lists"]}}
    training, coverage = plots.draw(figures, epochs)
    assert training.title.startswith("Training")
    assert len({training.light, training.dark, coverage.light, coverage.dark}) == 4


def test_a_baseline_or_a_protocol_may_be_missing(written: tuple[dict[str, Any], str, str]) -> None:
    document = deepcopy(written[0])
    del document["ease"]
    document["left_out"]["ease"] = "too large"
    for name in ("model", "popularity", "ials"):
        document[name]["sampled"], document["by_k"][name]["sampled"] = {}, {}
    html = page(document, [], ABOUT, {})
    assert "EASE is left out: too large" in html
    assert len(PNG.findall(html)) == 2 * 4


def test_lines_that_are_no_epochs_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{json.dumps(EPOCH)}\n\n{{"epoch": 2}}\n[1]\n{{"epoch": 3, "lo')
    assert read_epochs(path) == [EPOCH]


@pytest.mark.usefixtures("without_pictures")
def test_the_page_says_when_and_what(written: tuple[dict[str, Any], str, str]) -> None:
    html = page(written[0], [], ABOUT, {})
    assert all(f"<code>{value}</code>" in html for value in ABOUT.values())
    assert re.search(r"evaluated: <code>\d{4}-\d\d-\d\d \d\d:\d\d", written[1])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("report.pdf", "give a name that ends in .html"),
        ("report", "give a name that ends in .html"),
        ("nowhere/report.html", "cannot be written: No such file or directory"),
        ("folder.html", "cannot be written: Is a directory"),
    ],
)
def test_a_report_that_cannot_be_written_is_said_before_anything_is_evaluated(
    name: str, message: str, food_run: Run, food_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.html").mkdir()
    monkeypatch.setattr("ncf.evaluation.comparison.compare", lambda *arguments: pytest.fail("it was evaluated"))
    arguments = ["--run", str(food_run.path), "--data", str(food_csv), "--report", str(tmp_path / name)]
    ended = CliRunner().invoke(cli, ["evaluate", *arguments])
    assert isinstance(ended.exception, InputError)
    assert message in str(ended.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


def test_checking_a_report_removes_only_what_it_made(tmp_path: Path) -> None:
    link = tmp_path / "link.html"
    link.symlink_to(tmp_path / "not yet.html")
    check_writable(link)
    assert link.is_symlink()
    check_writable(tmp_path / "new.html")
    assert not (tmp_path / "new.html").exists()


def test_without_matplotlib_a_report_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncf.evaluation.page.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install -r requirements.txt"):
        check_writable(tmp_path / "a.html")


def test_a_mistake_elsewhere_leaves_no_empty_report(food_run: Run, tmp_path: Path) -> None:
    data, report = tmp_path / "none.csv", tmp_path / "report.html"
    arguments = ["--run", str(food_run.path), "--data", str(data), "--report", str(report)]
    ended = CliRunner().invoke(cli, ["evaluate", *arguments])
    assert isinstance(ended.exception, InputError)
    assert not report.exists()


def test_a_page_of_the_users_own_is_not_replaced(
    written: tuple[dict[str, Any], str, str], food_run: Run, food_csv: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "index.html"
    mine.write_text("<!doctype html><p>precious")
    arguments = ["--run", str(food_run.path), "--data", str(food_csv), "--report", str(mine)]
    ended = CliRunner().invoke(cli, ["evaluate", *arguments])
    assert isinstance(ended.exception, InputError)
    assert "is no report of `ncf evaluate`; choose another file" in str(ended.exception)
    assert mine.read_text() == "<!doctype html><p>precious"
    mine.write_text(written[1])
    check_writable(mine)  # an earlier report
    mine.write_text("")
    check_writable(mine)
