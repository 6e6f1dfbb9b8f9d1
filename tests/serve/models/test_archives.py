from __future__ import annotations

import os
from pathlib import Path

import pytest

from ncf.export.export import export
from ncf.training.run_directory import Run
from serve.errors import BadRequest
from serve.models.archives import Archive, confined
from serve.models.view import View
from serve.triton.model_config import read_config

PLAIN = 'name: "written"\nbackend: "python"\n'


def ensemble(*steps: str) -> str:
    listed = ", ".join(f'{{ model_name: "{step}" model_version: -1 }}' for step in steps)
    return f'platform: "ensemble"\nensemble_scheduling {{ step [ {listed} ] }}\n'


def write(folder: Path, config: str | None = PLAIN) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").touch()
    if config is not None:
        (folder / "config.pbtxt").write_text(config)


def read(root: Path, url: Path) -> Archive:
    return Archive.read(confined(str(url), root), root, str(url))


def lay_out(archive: Archive, tmp_path: Path, name: str) -> dict[str, str]:
    """The names Triton sees, with their configurations."""
    folder = tmp_path / "view"
    folder.mkdir()
    archive.lay_out(View(tmp_path, folder), name)
    configs = {model.name: model / "config.pbtxt" for model in folder.iterdir()}
    return {name: path.read_text() if path.exists() else "" for name, path in configs.items()}


@pytest.mark.parametrize(
    ("model", "url", "reported"),
    [
        ("h/model", "h/model", "h"),
        ("h/model", "h", "h"),
        ("h/model", "h/model/", "h"),
        ("h/model/food", "h/model", "h/model"),
        ("h/model/food", "h", "h/model"),
        ("h/model/deep/food", "h/model/deep", "h/model/deep"),
        ("a-b_c.d/model/food-1", "a-b_c.d/model", "a-b_c.d/model"),
    ],
)
def test_c074_c077_e10_both_layouts_and_the_url_that_is_reported(
    tmp_path: Path, model: str, url: str, reported: str
) -> None:
    root = tmp_path / "root"
    write(root / model)
    archive = read(root, root / url)
    assert archive.url == str(root / reported)
    (config,) = lay_out(archive, tmp_path, "hash").values()
    assert read_config(config).name == ""  # Triton takes the folder's
    assert (tmp_path / "view" / "hash" / "1" / "model.py").exists()


def test_a_model_may_leave_its_configuration_to_triton(tmp_path: Path) -> None:
    write(tmp_path / "root" / "h" / "model", config=None)
    assert lay_out(read(tmp_path / "root", tmp_path / "root" / "h"), tmp_path, "hash") == {"hash": ""}


def test_c078_the_ensemble_is_asked_and_its_parts_have_names_of_their_own(tmp_path: Path) -> None:
    model = tmp_path / "root" / "h" / "model"
    for part in ("first", "second", "unused"):
        write(model / part)
    write(model / "inner", ensemble("second"))
    write(model / "whole", ensemble("first", "inner"))
    archive = read(tmp_path / "root", model)
    assert archive.models == ("whole", "first", "inner", "second")
    assert archive.names("hash") == ("hash", "hash@first", "hash@inner", "hash@second")
    configs = lay_out(archive, tmp_path, "hash")
    assert set(configs) == {"hash", "hash@first", "hash@inner", "hash@second"}
    steps = [step.model_name for step in read_config(configs["hash"]).ensemble_scheduling.step]
    assert steps == ["hash@first", "hash@inner"]
    assert [step.model_name for step in read_config(configs["hash@inner"]).ensemble_scheduling.step] == ["hash@second"]


def test_a_recommender_is_served_with_its_newest_whole_version(tiny_run: Run, tmp_path: Path) -> None:
    model = tmp_path / "root" / "h" / "model"
    for with_topk in (False, True, True):
        export(tiny_run, model, "food", with_topk=with_topk)
    (model / "food_query" / "3" / "model.pt").unlink()
    archive = read(tmp_path / "root", model)
    assert archive.release is not None
    assert archive.release.version == 2
    assert archive.names("hash") == ("hash", "hash@food_topk", "hash@food_query")
    assert set(lay_out(archive, tmp_path, "hash")) == {*archive.names("hash")}
    shown = {path.name for path in (tmp_path / "view" / "hash").iterdir()}
    assert shown == {"config.pbtxt", "2"}
    export(tiny_run, model, "food", with_topk=False)
    archive = read(tmp_path / "root", model)
    assert archive.names("hash") == ("hash", "hash@food_query")
    assert set(archive.lay_out(View(tmp_path / "root", tmp_path / "view"), "other")) == {"other", "other@food_query"}


def test_one_part_of_a_recommender_alone_is_a_model_like_any_other(tiny_run: Run, tmp_path: Path) -> None:
    export(tiny_run, tmp_path / "repository", "food")
    folder = tmp_path / "root" / "h" / "model"
    folder.mkdir(parents=True)
    (tmp_path / "repository" / "food").rename(folder / "food")
    assert read(tmp_path / "root", folder).release is None


def test_archives_that_do_not_say_what_to_serve(tiny_run: Run, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "empty" / "model").mkdir(parents=True)
    (root / "deep" / "a" / "b" / "c" / "d" / "e" / "f").mkdir(parents=True)
    for name in ("one", "other"):
        write(root / "two" / name)
        write(root / "ensembles" / name, ensemble("part"))
        export(tiny_run, root / "recommenders", name)
    write(root / "ensembles" / "part")
    export(tiny_run, root / "more", "food")
    write(root / "more" / "extra")
    export(tiny_run, root / "broken", "food")
    (root / "broken" / "food_query" / "1" / "model.pt").unlink()
    export(tiny_run, root / "clash", "food")
    write(root / "clash" / "food_topk")
    write(root / "step" / "whole", ensemble("gone"))
    write(root / "step" / "part")
    write(root / "config" / "one", "no configuration {")
    write(root / "config" / "two")
    write(root / "bytes" / "one")
    write(root / "bytes" / "two")
    (root / "bytes" / "one" / "config.pbtxt").write_bytes(b"\xff\xfe")
    cases = {
        "empty": "holds no model",
        "deep": "holds no model",
        "two": "several models and does not say which one is asked: one, other",
        "ensembles": "none of them uses the others: one, other",
        "recommenders": "does not say which one is asked",
        "more": "does not say which one is asked: extra, food",
        "broken": "food: version 1 is not whole: food_query/1/model.pt is missing",
        "clash": "does not say which one is asked: food, food_query, food_topk",
        "step": "the ensemble whole has a step gone",
        "config": "config.pbtxt cannot be read",
        "bytes": "cannot be served",
    }
    for name, message in cases.items():
        with pytest.raises(BadRequest, match=message):
            read(root, root / name)


def test_c080_urls_outside_of_the_root_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "h")
    (root / "out").symlink_to(tmp_path)
    (root / "circle").symlink_to(root / "circle")
    (root / "file").touch()
    write(tmp_path / "outside")
    for url in (
        "/dev", "/proc/self", "/sys", "/", "/etc", "", "h", "h/../h", str(root), f"{root}/h/..", f"{root}/none",
        f"{root}/out/outside", f"{root}/circle", f"{root}/file", f"{root}/h/\0", f"{root}/{'x' * 5000}",
        f"{root}/../outside", None, 5, [], {}, True,
    ):  # fmt: skip
        with pytest.raises(BadRequest, match=r"url is .*; it must be a folder below"):
            confined(url, root)
    for url in (f"{root}/h", f"{root}/h/", f"{root}/out/root/h", f"{root}/none/../h"):
        assert confined(url, root) == (root / "h").resolve()
    with pytest.raises(BadRequest):  # even where somebody chose such a root
        confined("/proc/self", Path("/"))


def test_links_that_lead_out_of_the_root_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(tmp_path / "outside")
    write(root / "config" / "model", config=None)
    (root / "config" / "model" / "config.pbtxt").symlink_to(tmp_path / "outside" / "config.pbtxt")
    (root / "folder").mkdir()
    (root / "folder" / "model").symlink_to(tmp_path / "outside")
    for name in ("config", "folder"):
        with pytest.raises(BadRequest, match="leads out of"):
            read(root, root / name)


def test_messages_name_the_archives_own_paths(tmp_path: Path) -> None:
    model = tmp_path / "root" / "h" / "model"
    write(model / "part")
    write(model / "whole", ensemble("part"))
    archive, view = read(tmp_path / "root", model), View(tmp_path, tmp_path / "view")
    said = f"{view.folder}/hash/1/x and {view.folder}/hash@part/1/model.py(3)"
    expected = f"{model}/whole/1/x and {model}/part/1/model.py(3)"
    assert archive.as_seen_outside(said, view, "hash") == expected


def test_an_archive_that_cannot_be_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "root" / "h")
    folder = confined(str(tmp_path / "root" / "h"), tmp_path / "root")
    os.rename(folder, tmp_path / "away")  # noqa: PTH104
    with pytest.raises(BadRequest, match="cannot be served"):
        Archive.read(folder, tmp_path / "root", "url")
