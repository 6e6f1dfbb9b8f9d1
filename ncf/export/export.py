"""Export a run into a Triton model repository as TorchScript.

A recommender has two models: `<name>` scores pairs, and `<name>_query` ranks the whole catalogue, for a user, the
history of a new user, or an item, and under conditions. On request it has a third, `<name>_topk`, which does the first
of these for people who ask Triton itself. All are scripted, not traced, so that they contain no device: a model
exported on a machine with a GPU runs on a CPU, and the other way round.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ncf.data.item_columns import ItemColumn, items_of_values
from ncf.errors import InputError
from ncf.export.check import compare
from ncf.export.id_file import describe_columns, write_column, write_counts, write_id_file
from ncf.export.model_configs import QUERY_WARMUP, query_config, score_config, topk_config
from ncf.export.modules import TopK, TotalScorer
from ncf.export.query import Query
from ncf.export.repository import (
    check_request,
    free_version,
    has_topk,
    part_names,
    place_config,
    place_warmup,
    publish,
    staging_folder,
)
from ncf.export.serving_settings import PartSettings
from ncf.models.fold_in import fit_fold_in
from ncf.training.config import DEFAULT_K
from ncf.training.run_directory import Run


@dataclass(frozen=True)
class ExportedModel:
    """The result of an export: the models' directories, and the version in each; `topk` is None if it was left out."""

    score: Path
    topk: Path | None
    query: Path
    version: int
    k: int

    @property
    def listed(self) -> str:
        """The models in words, for a message."""
        topk = f", {self.topk.name}" if self.topk else ""
        return f"{self.score}{topk} and {self.query.name}"


def export(
    run: Run,
    repository: Path,
    name: str,
    version: int | None = None,
    k: int = DEFAULT_K,
    device: str = "auto",
    columns: Sequence[ItemColumn] = (),
    serving: Mapping[str, PartSettings] | None = None,
    with_topk: bool | None = None,
) -> ExportedModel:
    """Write the models of a recommender into a model repository; a version is complete or absent.

    The default version is the next free one. `columns` is the metadata of the items; `serving` has, by part, the
    settings that differ from the default configuration. Without `with_topk` a version has `<name>_topk` if the newest
    one in the repository has it. Raises InputError for an invalid name, version or k, and for `serving` if the
    recommender exists already, because it keeps its configuration, or if it names a part that is not exported.
    """
    check_request(name, version, k)
    names = part_names(name)
    if with_topk is None:
        with_topk = has_topk(repository, name)
    parts = {part: each for part, each in names._asdict().items() if with_topk or part != "topk"}
    for there in (repository / each / "config.pbtxt" for each in parts.values()):
        if serving and there.exists():
            raise InputError(
                f"{there} exists, and a new version keeps it: edit that file, or give --serving a new --name"
            )
    for part in serving or {}:
        if part not in parts:
            raise InputError(
                f"--serving has settings of {part}, which is not exported; add --with-{part}, or remove them"
            )
    query = query_module(run, k, columns)
    modules: dict[str, nn.Module] = {
        names.query: query,
        names.score: TotalScorer(run.model, len(run.users), len(run.items)),
    }
    configs = {names.query: query_config(k, device), names.score: score_config(device)}
    if with_topk:
        modules = {names.topk: TopK(query.catalogue, run.known, len(run.users), k), **modules}
        configs[names.topk] = topk_config(k, device)
    for part, model_name in parts.items():
        configs[model_name] = (serving or {}).get(part, PartSettings()).apply(configs[model_name])
    with staging_folder(repository) as staging:
        version = free_version(repository, names, version)
        for model_name, module in modules.items():
            folder = staging / model_name / str(version)
            folder.mkdir(parents=True)
            # Written by Python, because PyTorch aborts the process when the disk is full.
            content = torch.jit.script(module.eval()).save_to_buffer()  # type: ignore[no-untyped-call]
            (folder / "model.pt").write_bytes(content)
            place_config(configs[model_name], staging / model_name, repository / model_name)
        compare(run, {part: staging / each / str(version) / "model.pt" for part, each in parts.items()}, k)
        place_warmup(QUERY_WARMUP, staging / names.query)
        folder = staging / name / str(version)
        write_id_file(folder / "users.ids", run.users)
        write_id_file(folder / "items.ids", run.items)
        write_counts(folder / "items.counts", run.known.items.bincount(minlength=len(run.items)).numpy())
        for number, column in enumerate(columns):
            write_column(folder, number, column)
        described = {
            **{f"{part}_model": each for part, each in parts.items() if part != "score"},
            "k": k,
            "columns": describe_columns(columns),
        }
        (folder / "recommender.json").write_text(json.dumps(described) + "\n")
        # The scoring model is published last: with its recommender.json `serve` takes the models for a recommender.
        for model_name in modules:
            publish(staging / model_name, repository / model_name, version)
    topk = repository / names.topk if with_topk else None
    return ExportedModel(repository / names.score, topk, repository / names.query, version, k)


def query_module(run: Run, k: int, columns: Sequence[ItemColumn] = ()) -> Query:
    """The module that ranks the catalogue of a run, k items of it; `columns` are the items' columns for conditions."""
    alone = [column.codes for column in columns if column.starts is None]
    codes = torch.from_numpy(np.array(alone, np.int64).reshape(len(alone), len(run.items)))
    several = [items_of_values(column) for column in columns if column.starts is not None]
    catalogue = run.model.catalogue()
    return Query(
        catalogue,
        fit_fold_in(catalogue, run.known),
        run.known,
        len(run.users),
        k,
        codes,
        [(torch.from_numpy(indptr), torch.from_numpy(items)) for indptr, items in several],
    )
