"""Write `two_stage` into a Triton model repository: NCF finds 50 candidates, gradient-boosted trees rank them.

Both are trained here, on the generated food catalogue. Each user's latest three items are hidden from NCF. The trees
learn from four users of five to put these items first among the candidates; the others measure it.
"""

import json
import runpy
import shutil
import tempfile
from pathlib import Path

import click
import numpy as np
import polars as pl
import xgboost

from ncf import Recommender
from ncf.data.sample import CATALOGUES, generate

HERE = Path(__file__).parent
CANDIDATES, HIDDEN = 50, 3
features = runpy.run_path(str(HERE / "repository" / "two_stage_features" / "1" / "features.py"))["features"]


@click.command(help=__doc__)
@click.option("--repository", default="model_repository", show_default=True, type=click.Path(path_type=Path))
@click.option("--backend", default="python", show_default=True, type=click.Choice(["python", "fil"]),
              help="What runs the trees; NVIDIA's image has fil.")  # fmt: skip
def build(repository: Path, backend: str) -> None:
    data = generate(CATALOGUES["food"])  # the oldest first
    to_the_end = (pl.len() - pl.int_range(pl.len())).over("user_id")
    history, hidden = data.filter(to_the_end > HIDDEN), data.filter(to_the_end <= HIDDEN)

    ncf = Recommender(num_factors=16).fit(history)
    users, items = ncf.user_vectors()["user_id"], ncf.item_vectors()["item_id"]  # by index
    candidates = ncf.recommend(users, k=CANDIDATES)
    item = index(items, candidates["item_id"]).reshape(len(users), CANDIDATES)
    score = candidates["score"].to_numpy().reshape(item.shape)
    known = what_is_known(users, items, history)
    rows = features(known, np.arange(len(users)), item, score)
    wanted = np.zeros((len(users), len(items)), np.float32)
    wanted[index(users, hidden["user_id"]), index(items, hidden["item_id"])] = 1
    label = np.take_along_axis(wanted, item, 1)

    is_fifth = np.arange(len(users)) % 5 == 0
    learned = xgboost.DMatrix(rows[~is_fifth.repeat(CANDIDATES)], label[~is_fifth].ravel())
    learned.set_group(np.full((~is_fifth).sum(), CANDIDATES))
    trees = xgboost.train({"objective": "rank:ndcg", "max_depth": 3, "eta": 0.1, "seed": 0, "nthread": 1}, learned, 50)
    second = trees.inplace_predict(rows).reshape(item.shape)
    reranked = np.take_along_axis(label, np.argsort(-second, 1, kind="stable"), 1)
    ncf_alone, both = (found[is_fifth, :10].sum() / wanted[is_fifth].sum() for found in (label, reranked))
    click.echo(
        f"of the hidden items of {is_fifth.sum()} users the first ten have: NCF {ncf_alone:.3f}, with trees {both:.3f}"
    )

    shutil.copytree(HERE / "repository", repository, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    with tempfile.TemporaryDirectory() as exported:
        ncf.export(exported, "ncf", k=CANDIDATES)
        shutil.copytree(Path(exported, "ncf_query"), repository / "two_stage_candidates", dirs_exist_ok=True)
    (repository / "two_stage" / "1").mkdir(exist_ok=True)
    (repository / "two_stage_users" / "1" / "users.json").write_text(json.dumps(users.to_list()))
    (repository / "two_stage_answer" / "1" / "items.json").write_text(json.dumps(items.to_list()))
    np.savez(repository / "two_stage_features" / "1" / "known.npz", **known)
    trees.save_model(repository / "two_stage_trees" / "1" / "xgboost.ubj")
    if backend == "fil":
        shutil.copy(HERE / "fil" / "config.pbtxt", repository / "two_stage_trees")
    click.echo(f"wrote {repository / 'two_stage'} and its five steps")


def index(ids: pl.Series, wanted: pl.Series) -> np.ndarray:
    """The places of ids in the list of all."""
    return wanted.replace_strict(ids, range(len(ids))).to_numpy()


def what_is_known(users: pl.Series, items: pl.Series, history: pl.DataFrame) -> dict[str, np.ndarray]:
    """What `features` needs; an item's group is the first part of its id."""
    group = items.str.split("-").list.first().rank("dense").to_numpy().astype(np.int64) - 1
    user, item = index(users, history["user_id"]), index(items, history["item_id"])
    count = np.zeros((len(users) + 1, group.max() + 1))
    np.add.at(count, (user, group[item]), 1)
    return {
        "popularity": np.log1p(np.bincount(item, minlength=len(items))),
        "activity": np.log1p(count.sum(1)),
        "group": group,
        "share": count / np.maximum(count.sum(1, keepdims=True), 1),
    }


if __name__ == "__main__":
    build()
