"""`scripts/package_model.sh`: what is in the archive, that it is the same every time, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from ncf.export.export import export
from ncf.export.repository import rollback
from ncf.training.run_directory import Run
from serve.models.archives import Archive
from serve.models.repository import Repository

SCRIPT = Path(__file__).parents[2] / "scripts" / "package_model.sh"


def package(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def packed(*words: object, folder: Path) -> tuple[list[str], str]:
    """What is in model.tar.gz, and what was said."""
    ended = package(*words, folder=folder)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    with tarfile.open(folder / "model.tar.gz") as archive:
        return archive.getnames(), ended.stdout


def model(folder: Path, *files: str, config: str = 'platform: "pytorch_libtorch"\n') -> Path:
    """A model's folder; what is in its files does not matter here."""
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(f"{folder.name}/{file}")
    return folder


def recommender(folder: Path, *versions: int, with_topk: bool = False) -> Path:
    """The models of a recommender."""
    named = [f"{folder.name}_topk", f"{folder.name}_query"][not with_topk :]
    for name in (folder.name, *named):
        model(folder.with_name(name), *(f"{version}/model.pt" for version in versions))
    for version in versions:
        (folder / str(version) / "recommender.json").write_text(json.dumps(named))
    return folder


def test_a_recommender_comes_with_its_parts_and_serve_takes_it(tiny_run: Run, tmp_path: Path) -> None:
    export(tiny_run, tmp_path / "repository", "mine")
    names, said = packed("repository/mine", folder=tmp_path)
    assert {name.split("/")[0] for name in names} == {"mine", "mine_query"}
    assert names == sorted(names)
    assert "  mine, version 1\n  mine_query, version 1\n" in said
    assert said.endswith(
        "next:\n  scripts/run_local.sh serve model.tar.gz\n  aws s3 cp model.tar.gz s3://BUCKET/PREFIX/model.tar.gz\n"
    )
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        assert {(member.uid, member.gid, member.uname) for member in archive} == {(0, 0, "")}
        assert {member.mode for member in archive} == {0o755, 0o644}
        assert all(member.isfile() or member.isdir() for member in archive)
        archive.extractall(tmp_path / "models" / "model", filter="data")
    unpacked = tmp_path / "models" / "model"
    assert Repository.scan(unpacked).to_load(None) == ("mine", "mine_query")
    release = Archive.read(unpacked, tmp_path / "models", str(unpacked)).release
    assert release is not None
    assert release.name == "mine"


def test_a_version_is_packed_with_the_models_that_it_names(tiny_run: Run, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for with_topk in (True, False):
        export(tiny_run, repository, "mine", with_topk=with_topk)
    for given in ("repository/mine", "repository"):
        names, said = packed(given, "--force", folder=tmp_path)
        assert {name.split("/")[0] for name in names} == {"mine", "mine_query"}
        note = "note: mine_topk is left out: version 2 of mine has no such model\n"
        assert (note in said) == (given == "repository")
    assert (
        "mine_topk is a part of the recommender mine" in package("repository/mine_topk", "-f", folder=tmp_path).stderr
    )
    rollback(repository, "mine")
    for given in ("repository/mine", "repository"):
        names, said = packed(given, "--force", folder=tmp_path)
        assert {name.split("/")[0] for name in names} == {"mine", "mine_query", "mine_topk"}
        assert "  mine, version 1\n  mine_query, version 1\n  mine_topk, version 1\n" in said
        assert "note" not in said
    unpacked = tmp_path / "models" / "model"
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        archive.extractall(unpacked, filter="data")
    assert Repository.scan(unpacked).to_load(None) == ("mine", "mine_query", "mine_topk")
    assert Archive.read(unpacked, tmp_path / "models", str(unpacked)).models == ("mine", "mine_topk", "mine_query")


def test_somebodys_own_model_is_packed_as_one(tmp_path: Path) -> None:
    recommender(tmp_path / "repository" / "food", 1)
    model(tmp_path / "repository" / "food_topk", "7/model.pt")
    _, said = packed("repository", folder=tmp_path)
    assert "  food_topk, version 7\n" in said
    assert "make an archive of each of food food_topk" in said
    assert package("repository/food_topk", "--force", folder=tmp_path).returncode == 0


def test_the_same_files_give_the_same_archive_and_others_another_time(tmp_path: Path) -> None:
    recommender(tmp_path / "a" / "food", 1)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "food" / "1" / "model.pt").chmod(0o600)
    for folder in ("a", "b"):
        assert package(f"{folder}/food", "-o", f"{folder}.tar.gz", folder=tmp_path).returncode == 0
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    # serve knows files by name, size and time: another model of the same size must not have the same time.
    weights = tmp_path / "b" / "food" / "1" / "model.pt"
    weights.write_text(weights.read_text()[::-1])
    assert package("b/food", "--output", "b.tar.gz", "--force", folder=tmp_path).returncode == 0
    times = []
    for folder in ("a", "b"):
        with tarfile.open(tmp_path / f"{folder}.tar.gz") as archive:
            times.append({member.mtime for member in archive})
    assert [len(each) for each in times] == [1, 1]
    assert times[0] != times[1]


def test_only_the_version_that_is_served_is_packed(tiny_run: Run, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for _ in range(3):
        export(tiny_run, repository, "mine")
    rollback(repository, "mine")
    (repository / ".export-killed" / "mine" / "4").mkdir(parents=True)
    for left in ("mine/.DS_Store", "mine/2/._model.pt", "mine_query/2/__pycache__/x.pyc"):
        (repository / left).parent.mkdir(exist_ok=True)
        (repository / left).write_text("")
    names, _ = packed("repository/mine", folder=tmp_path)
    assert {name.split("/")[1] for name in names if "/" in name} == {"2", "config.pbtxt", "warmup"}
    assert not [name for name in names if "/." in name or "__pycache__" in name]


def test_a_version_that_is_not_whole_is_passed_over_and_said(tmp_path: Path) -> None:
    recommender(tmp_path / "food", 1, 2)
    (tmp_path / "food_query" / "2" / "model.pt").unlink()
    names, said = packed("food", folder=tmp_path)
    assert "food/1/model.pt" in names
    assert "food/2" not in names
    assert "note: version 2 of food is not whole: food_query/2/model.pt is missing; packed version 1" in said


def test_a_whole_repository(tmp_path: Path) -> None:
    repository = tmp_path / "my models"
    for name in ("food", "fashion"):
        recommender(repository / name, 1)
    model(repository / "rules", "1/model.py", "1/rules/a.txt", "3/model.py", config='backend: "python"\n')
    model(repository / "both", config='platform: "ensemble"\n')
    (repository / "both" / "1").mkdir()
    (repository / "README.md").write_text("")
    (repository / "notes").mkdir()
    names, said = packed(repository, folder=tmp_path)
    assert len({name.split("/")[0] for name in names}) == 6
    assert {"rules/1/model.py", "rules/1/rules/a.txt", "rules/3/model.py", "both/1"} < set(names)
    assert "  rules, version 1, 3\n" in said
    shutil.rmtree(repository / "both")
    # Every folder that a shell's pattern names is taken once.
    _, said = packed(repository / "food", repository / "food_query", repository / "rules", "--force", folder=tmp_path)
    assert "note: for a multi-model endpoint make an archive of each of food rules: " in said


def test_links_are_replaced_by_what_they_point_to(tmp_path: Path) -> None:
    recommender(tmp_path / "store" / "food", 1)
    large = tmp_path / "large.pt"
    (tmp_path / "store" / "food" / "1" / "model.pt").rename(large)
    (tmp_path / "store" / "food" / "1" / "model.pt").symlink_to(large)
    (tmp_path / "store" / "food" / "1" / "same.pt").hardlink_to(large)
    (tmp_path / "repository").mkdir()
    for part in ("food", "food_query"):
        (tmp_path / "repository" / part).symlink_to(tmp_path / "store" / part)
    packed("repository/food", folder=tmp_path)
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        assert all(member.isfile() or member.isdir() for member in archive)
        weights = archive.extractfile("food/1/model.pt")
        assert weights is not None
        assert weights.read() == large.read_bytes()


@pytest.mark.parametrize(
    ("words", "change", "said"),
    [
        ([], None, "no model given, such as model_repository/ncf_food_model; see --help"),
        (["--all"], None, "there is no option --all; see --help"),
        (["food", "-o"], None, "-o takes the name of the archive, such as model.tar.gz"),
        (["drink"], None, "drink is no folder; give a model's folder, such as model_repository/ncf_food_model"),
        (["empty"], None, "empty holds no model; a model is a folder with config.pbtxt and <version>/"),
        (["food", "-o", "there.tar.gz"], None, "there.tar.gz exists already; choose another --output, or add --force"),
        (["food", "-o", "no/m.tar.gz"], None, "the folder of no/m.tar.gz does not exist; make it, or choose another"),
        (["food", "-o", "empty"], None, "empty is a folder; --output takes the name of the archive"),
        (["food_query"], None, "food_query is a part of the recommender food; give "),
        (["food", "other/food"], None, "two models are named food: "),
        (["food"], "food_query/1/model.pt", "version 1 of food is not whole: food_query/1/model.pt is missing; export"),
        (
            ["food"],
            "food_query/config.pbtxt",
            "food_query has no config.pbtxt; write one, or export it with `ncf export`",
        ),
        (["plain"], "plain/1/model.pt", "plain/1 holds no model.pt; put it there, or delete the folder"),
        (["bare"], None, "bare has no version; it needs a folder such as bare/1/ with model.pt"),
        (["a model"], None, "'a model' is no name that Triton's backends can take; use letters, digits, '.', '_'"),
        (["dangling"], None, "a link points to nothing: dangling/1/model.pt; put the file in its place, or delete it"),
    ],
)
def test_a_mistake_is_one_line_exit_code_2_and_leaves_nothing(
    tmp_path: Path, words: list[str], change: str | None, said: str
) -> None:
    recommender(tmp_path / "food", 1)
    recommender(tmp_path / "other" / "food", 1)
    model(tmp_path / "plain", "1/model.pt")
    model(tmp_path / "bare")
    model(tmp_path / "a model", "1/model.pt")
    (model(tmp_path / "dangling", "1/x") / "1" / "model.pt").symlink_to("nothing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.tar.gz").write_text("kept")
    if change:
        (tmp_path / change).unlink()
    before = sorted(tmp_path.iterdir())
    ended = package(*words, folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"package_model.sh: {said}")
    assert ended.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.tar.gz").read_text() == "kept"


def test_help_has_examples(tmp_path: Path) -> None:
    ended = package("--help", folder=tmp_path)
    assert ended.returncode == 0
    assert "Examples:\n  scripts/package_model.sh model_repository/ncf_food_model " in ended.stdout
