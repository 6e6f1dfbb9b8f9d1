"""Export a run into a Triton model repository as TorchScript.

A recommender has three models: `<name>` scores pairs, `<name>_topk` ranks the whole catalogue for a user, and
`<name>_query` ranks it under conditions, for the history of a new user, or for an item. All are scripted, not traced,
so that they contain no device: a model exported on a machine with a GPU runs on a CPU, and the other way round.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ncf.data.item_columns import ItemColumn
from ncf.errors import InputError
from ncf.export.check import compare
from ncf.export.id_file import write_column, write_counts, write_id_file
from ncf.export.model_configs import QUERY_WARMUP, query_config, score_config, topk_config
from ncf.export.modules import TopK, TotalScorer
from ncf.export.query import Query
from ncf.export.repository import (
    check_request,
    free_version,
    part_names,
    place_config,
    place_warmup,
    publish,
    staging_folder,
)
from ncf.export.serving_settings import PARTS, PartSettings
from ncf.models.fold_in import fit_fold_in
from ncf.training.config import DEFAULT_K
from ncf.training.run_directory import Run


@dataclass(frozen=True)
class ExportedModel:
    """The result of an export: the three model directories, and the version in each."""

    score: Path
    topk: Path
    query: Path
    version: int
    k: int


def export(
    run: Run,
    repository: Path,
    name: str,
    version: int | None = None,
    k: int = DEFAULT_K,
    device: str = "auto",
    columns: Sequence[ItemColumn] = (),
    serving: Mapping[str, PartSettings] | None = None,
) -> ExportedModel:
    """Write `<name>`, `<name>_topk` and `<name>_query` into a model repository; a version is complete or absent.

    The default version is the next free one. `columns` is the metadata of the items; `serving` has, by part, the
    settings that differ from the default configuration. Raises InputError for an invalid name, version or k, and for
    `serving` if the recommender exists already: then it keeps its configuration.
    """
    check_request(name, version, k)
    names = part_names(name)
    for there in (repository / part / "config.pbtxt" for part in names):
        if serving and there.exists():
            raise InputError(
                f"{there} exists, and a new version keeps it: edit that file, or give --serving a new --name"
            )
    codes = torch.from_numpy(np.array([column.codes for column in columns]).reshape(len(columns), len(run.items)))
    catalogue = run.model.catalogue()
    fold_in = fit_fold_in(catalogue, run.known)
    modules = {
        names.topk: TopK(run.model.catalogue(), run.known, len(run.users), k),
        names.query: Query(catalogue, fold_in, run.known, len(run.users), k, codes.long()),
        names.score: TotalScorer(run.model, len(run.users), len(run.items)),
    }
    configs = {
        names.topk: topk_config(k, device),
        names.query: query_config(k, device),
        names.score: score_config(device),
    }
    for part, model_name in zip(PARTS, names, strict=True):
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
        score_file, topk_file, query_file = (staging / part / str(version) / "model.pt" for part in names)
        compare(run, score_file, topk_file, query_file, k)
        place_warmup(QUERY_WARMUP, staging / names.query, repository / names.query)
        folder = staging / name / str(version)
        write_id_file(folder / "users.ids", run.users)
        write_id_file(folder / "items.ids", run.items)
        write_counts(folder / "items.counts", run.known.items.bincount(minlength=len(run.items)).numpy())
        for number, column in enumerate(columns):
            write_column(folder, number, column)
        described = {
            "topk_model": names.topk,
            "query_model": names.query,
            "k": k,
            "columns": [{"name": column.name, "kind": column.kind} for column in columns],
        }
        (folder / "recommender.json").write_text(json.dumps(described) + "\n")
        # The scoring model is published last: `serve` takes the three models for a recommender by its recommender.json.
        for model_name in modules:
            publish(staging / model_name, repository / model_name, version)
    return ExportedModel(repository / names.score, repository / names.topk, repository / names.query, version, k)
