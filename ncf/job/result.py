"""The results of a training job: a Triton model repository, and the evaluation of the model."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncf.data.interactions import IdIndex
from ncf.data.item_columns import read_items
from ncf.data.load import load_split
from ncf.data.tables import id_column, read_frame
from ncf.errors import InputError
from ncf.job.data import JobData
from ncf.job.settings import JobSettings

log = logging.getLogger(__name__)

EVALUATION = "evaluation.json"


def check_items(items: Path | None, item_column: str) -> None:
    """Check the table of items before the training. Raises InputError if it cannot be exported."""
    if items:
        ids = id_column(read_frame(items, "--items"), item_column, str(items), "--item-column")
        read_items(items, IdIndex.of(ids), item_column)


def export_run(run_directory: Path, repository: Path, settings: JobSettings, items: Path | None) -> None:
    """Write a finished run into a model repository. Raises OSError, with the remedy if the disk is full."""
    from ncf.export.export import export
    from ncf.training.progress import metrics
    from ncf.training.run_directory import load_run

    run = load_run(run_directory, refitted=True)
    try:
        columns = read_items(items, run.items, settings.config.split.columns.item_name) if items else []
    except InputError as error:  # a model without metadata is better than no model
        log.error("the model is written without the metadata of items: %s", error)
        columns = []
    try:
        exported = export(run, repository, settings.model_name, None, settings.k, settings.device, columns)
    except OSError as error:
        more = "; give the job a larger volume" if error.errno == errno.ENOSPC else ""
        raise OSError(
            f"cannot write the model into {repository}: {error.strerror or error}{more}; the run is in {run_directory}"
        ) from error
    best = json.loads((run_directory / "result.json").read_text())
    log.info(
        "%s: %s",
        # Both are found by the pattern for the best epoch in docs/training-jobs.md.
        f"best epoch {best['best_epoch']}" if best["best_epoch"] else f"no best epoch but a model {best['origin']}",
        metrics(best["loss"], best["hold_out"]["HR@10"], best["hold_out"]["NDCG@10"]),
    )
    log.info("wrote %s", exported.listed)


def evaluate_run(run_directory: Path, output: Path, settings: JobSettings, data: JobData) -> None:
    """Evaluate a finished run on its held-out items, log the metrics and write evaluation.json.

    An error is only logged, because the model is already written.
    """
    from ncf.training.progress import metrics

    try:
        document = evaluation(run_directory, settings.device, data.paths)
        (output / EVALUATION).write_text(json.dumps(document, indent=2) + "\n")
    except KeyboardInterrupt:
        log.warning("the job was stopped before the held-out items were evaluated; the model is written")
    except Exception as error:
        log.warning("the held-out items were not evaluated; the model is written", exc_info=error)
    else:
        sampled = document["model"]["sampled"]
        log.info(
            "test: %s (%s held-out items of %s users)",
            *(metrics(None, sampled.get("HR@10"), sampled.get("NDCG@10")), f"{document['held_out']:,}"),
            f"{document['users']:,}",
        )


def evaluation(run_directory: Path, device: str, data: Sequence[Path]) -> dict[str, Any]:
    """The document of `ncf evaluate --json` for a run."""
    from ncf.training.run import choose_device, compare_run
    from ncf.training.run_directory import load_run

    run = load_run(run_directory, choose_device(device))
    return compare_run(run, load_split(data, run.config.split)).document(run.config.model)
