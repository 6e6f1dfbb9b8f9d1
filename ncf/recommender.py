"""The Python API: one object that trains, recommends, evaluates and exports, in raw ids and data frames."""

from __future__ import annotations

import difflib
import shutil
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ncf.data.item_columns import ItemColumn, columns_of, read_items
from ncf.data.load import load_split, split_frame
from ncf.data.splits import Split, SplitOptions
from ncf.errors import InputError
from ncf.files.frames import as_polars
from ncf.files.reading import Columns, Reading
from ncf.training.config import DEFAULT_K, DEVICES, TrainConfig
from ncf.training.presets import configure

if TYPE_CHECKING:  # torch is loaded by the first fit or load, so that importing ncf is quick
    from ncf.evaluation.comparison import Comparison
    from ncf.export.export import ExportedModel
    from ncf.export.ranker import Conditions, Ranker
    from ncf.training.run_directory import Run

SETTINGS = (*dict.fromkeys(each.name for kind in (TrainConfig, SplitOptions) for each in fields(kind)), "split_seed")
NOT_BY_KEYWORD = ("columns", "reading")


class Recommender:
    """A recommender by Neural Collaborative Filtering (arXiv 1708.05031), in raw ids.

    The settings are those of `ncf train` (docs/training.md), by keyword, over those of a preset; `split`, `held_out`,
    `test_share`, `test` (a path), `split_seed` (by default `seed`), `min_user_interactions` and `min_item_interactions`
    say how data are split. With `refit` everything is fitted again, held-out items too, to recommend with; `evaluate`
    measures the model before. Raises InputError for a setting that cannot be.

        model = Recommender(num_factors=64).fit(frame, user="customer", item="sku", timestamp="at")
        model.recommend("u17", k=10)
    """

    def __init__(self, preset: str | None = None, *, device: str = "auto", **settings: Any) -> None:
        known = [name for name in SETTINGS if name not in NOT_BY_KEYWORD]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
                raise InputError(f"setting '{name}' is unknown; {hint}")
        if device not in DEVICES:
            raise InputError(f"device is '{device}'; choose {', '.join(DEVICES)}")
        self.config = configure(preset, settings)
        self.device = device
        self._fitted: Run | None = None
        self._items: Any = None
        self._columns: list[ItemColumn] = []
        self._made_ranker: Ranker | None = None

    def fit(
        self, data: Any, *, user: str | None = None, item: str | None = None, weight: str | None = None,
        timestamp: str | None = None, event: str | None = None, items: Any = None,
        item_features: Any = None, user_features: Any = None, progress: bool = False,
        init: str | Path | Recommender | None = None, **reading: Any,
    ) -> Recommender:  # fmt: skip
        """Train on a frame, a path, several paths or a `Split`; returns this object.

        `user`, `item`, `weight`, `timestamp` and `event` name columns that have other names than usual; `reading` are
        the fields of `Reading`, such as min_weight. `items` is a frame or file with a row for each item, whose columns
        `where` asks for. `item_features` and `user_features` are frames or files with a row for each item or user,
        which the model learns from as well. `progress` shows what was read, and a bar. With `init`, an earlier run or
        recommender of the same model and size, training starts with its parameters and takes fewer epochs. Raises
        InputError.
        """
        from ncf.training.run import Life, choose_device, train_run

        columns = Columns(user, item, weight, timestamp, event)
        options = replace(self.config.split, columns=columns, reading=Reading(**reading))
        split = data if isinstance(data, Split) else _split(data, options)
        scratch = mkdtemp(prefix="ncf-run-")  # as long as this object
        weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        folder = Path(scratch) / "run"
        config = replace(self.config, split=options)
        earlier = init._run.path if isinstance(init, Recommender) else Path(init) if init is not None else None
        life = Life(quiet=not progress, init=earlier)
        train_run(split, folder, config, choose_device(self.device), life, item_features, user_features)
        self._take(folder, items)
        return self

    @classmethod
    def load(cls, path: str | Path, *, items: Any = None, device: str = "auto") -> Recommender:
        """The recommender of a run directory, of `save` or `ncf train`. Raises InputError if it is none."""
        model = cls(device=device)
        model._take(Path(path), items)
        return model

    def save(self, path: str | Path) -> Path:
        """Write the run directory, which `load` and the commands of `ncf` take. Raises InputError if it exists."""
        target = Path(path)
        if target.exists():
            raise InputError(f"{target} exists already; choose another path")
        try:
            shutil.copytree(self._run.path, target)
        except OSError as error:
            raise InputError(f"cannot write {target}: {error.strerror or error}; choose another path") from error
        return target

    @property
    def history(self) -> pl.DataFrame:
        """A row for each epoch: epoch, loss, samples/s, and HR@10 and NDCG@10 on the items that choose the epoch."""
        from ncf.training.run_directory import read_epochs

        return pl.DataFrame(read_epochs(self._run.path / "metrics.jsonl"))

    def recommend(
        self, users: Any = None, k: int = 10, *, history: Sequence[object] | None = None,
        exclude: Sequence[object] = (), allow: Sequence[object] | None = None,
        where: Mapping[str, object] | None = None, exclude_seen: bool = True,
    ) -> pl.DataFrame:  # fmt: skip
        """The k best items for a user, for each of several users, or for somebody with a history of items.

        A frame with item_id and score, and user_id first if `users` is a list or a column; best first. A user who is
        not known gets the most popular items, scored by their number of interactions, as `serve` does. `where` are
        columns of the items and their wanted values. Raises InputError.
        """
        conditions = self._conditions(k, exclude, allow, where, exclude_seen)
        if (users is None) == (history is None):
            raise InputError("recommend takes a user, several users, or history=[items]: one of them")
        if history is not None:
            return self._frame(self._ranker.for_history(history, k, conditions))
        if isinstance(users, str | int | np.integer):
            return self._frame(self._ranker.for_users([users], k, conditions))
        several = list(users)
        return self._frame(self._ranker.for_users(several, k, conditions), user_id=several)

    def similar(
        self, items: Any, k: int = 10, *, exclude: Sequence[object] = (), allow: Sequence[object] | None = None,
        where: Mapping[str, object] | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """The k items that are most like an item, or like each of several, by the cosine of their representations.

        A frame with item_id and score, and like_item_id first for several items.
        """
        conditions = self._conditions(k, exclude, allow, where, True)
        if isinstance(items, str | int | np.integer):
            return self._frame(self._ranker.similar_to([items], k, conditions))
        several = list(items)
        return self._frame(self._ranker.similar_to(several, k, conditions), like_item_id=several)

    def score(self, pairs: Any) -> pl.DataFrame:
        """The frame of user_id and item_id with a column score: a logit; null where user or item is not known."""
        import torch

        from ncf.export.modules import TotalScorer

        frame, run = as_polars(pairs, "pairs"), self._run
        for name in ("user_id", "item_id"):
            if name not in frame.columns:
                raise InputError(f"pairs has no column '{name}'; it has {', '.join(frame.columns)}")
        user, item = run.users.encode(frame["user_id"]), run.items.encode(frame["item_id"])
        with torch.inference_mode():
            module = TotalScorer(run.model, len(run.users), len(run.items))
            found = module(torch.from_numpy(user).unsqueeze(1), torch.from_numpy(item).unsqueeze(1)).squeeze(1)
        score = pl.Series("score", found.numpy()).set(pl.Series((user < 0) | (item < 0)), None)
        return frame.with_columns(score)

    def evaluate(self, data: Any = None, *, negatives_among: str = "unseen") -> Comparison:
        """Rank the held-out items beside popularity, EASE and iALS; of the run's own or of other `data`.

        `negatives_among` popular draws the 99 negatives in proportion to their popularity. Raises InputError.
        """
        from ncf.training.run import compare_run
        from ncf.training.run_directory import load_run, own_split

        run = load_run(self._run.path) if self._run.refitted else self._run  # which never saw what it held out
        if data is None:
            data = own_split(run)
        split = data if isinstance(data, Split) else _split(data, self.config.split)
        return compare_run(run, split, negatives_among=negatives_among)

    def export(
        self, repository: str | Path, name: str, *, version: int | None = None, k: int = DEFAULT_K, items: Any = None,
        new_items: Any = None, new_users: Any = None,
    ) -> ExportedModel:  # fmt: skip
        """Write the models into a Triton model repository, as `ncf export` does; `items` as in `fit`.

        `new_items` and `new_users` are frames or files with the features of items and users that the run does not
        know; InputError if it was trained without features of these.
        """
        from ncf.export.export import export
        from ncf.export.new import with_new

        run, _ = with_new(self._run, new_items, new_users)
        source = self._items if items is None else items
        columns = [] if source is None else self._read_items(source, run)
        return export(run, Path(repository), name, version, k, self.device, columns)

    def user_vectors(self) -> pl.DataFrame:
        """user_id and vector, whose inner product with an item's vector is the score. InputError unless it is a GMF."""
        return self._vectors("user")

    def item_vectors(self) -> pl.DataFrame:
        """item_id and vector, ready for a vector index: see `user_vectors`."""
        return self._vectors("item")

    @property
    def _run(self) -> Run:
        if self._fitted is None:
            raise InputError("this recommender is not trained; call fit, or Recommender.load")
        return self._fitted

    @property
    def _ranker(self) -> Ranker:
        from ncf.export.ranker import Ranker

        if self._made_ranker is None:
            self._made_ranker = Ranker(self._run, self._columns)
        return self._made_ranker

    def _take(self, path: Path, items: Any) -> None:
        from ncf.training.run_directory import load_run

        self._fitted = load_run(path, refitted=True)
        self.config = self._fitted.config
        self._made_ranker = None
        self._items = items
        self._columns = [] if items is None else self._read_items(items, self._fitted)

    def _read_items(self, items: Any, run: Run) -> list[ItemColumn]:
        name = self.config.split.columns.item_name
        if isinstance(items, str | Path):
            return read_items(Path(items), run.items, name)
        return columns_of(as_polars(items, "items"), run.items, name, "items")

    def _conditions(
        self, k: int, exclude: Sequence[object], allow: Sequence[object] | None, where: Mapping[str, object] | None,
        exclude_seen: bool,
    ) -> Conditions:  # fmt: skip
        from ncf.export.ranker import Conditions

        most = len(self._run.items)
        if not 1 <= k <= most:
            raise InputError(f"k is {k}; it must be from 1 to {most}, the number of items")
        return Conditions(exclude, allow, where, exclude_seen)

    def _frame(self, found: tuple[Any, Any], **asked: Sequence[object]) -> pl.DataFrame:
        """The places of rankings [Q, k] that are not empty, as rows; `asked` has the id of each ranking."""
        item, score = found
        row, place = np.nonzero(item >= 0)
        columns = {name: pl.Series(ids, strict=False).gather(row) for name, ids in asked.items()}
        items = self._run.items.ids.gather(item[row, place])
        return pl.DataFrame({**columns, "item_id": items, "score": score[row, place]})

    def _vectors(self, what: str) -> pl.DataFrame:
        from ncf.export.vectors import vectors

        ids = self._run.users if what == "user" else self._run.items
        found = vectors(self._run)[what == "item"]
        return pl.DataFrame({f"{what}_id": ids.ids, "vector": pl.Series(list(found), dtype=pl.List(pl.Float32))})


def _split(data: Any, options: SplitOptions) -> Split:
    """The split of a frame, a path, or several paths."""
    if isinstance(data, str | Path):
        return load_split(Path(data), options)
    if isinstance(data, list | tuple) and data and all(isinstance(each, str | Path) for each in data):
        return load_split([Path(each) for each in data], options)
    return split_frame(as_polars(data, "data"), options)
