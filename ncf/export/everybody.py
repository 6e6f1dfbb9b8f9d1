"""Recommendations for everybody, written to a file block by block; an interrupted run goes on where it ended."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch

from ncf.errors import InputError
from ncf.export.ranker import Conditions, Ranker

FORMATS = (".parquet", ".csv", ".jsonl")
USERS_A_FILE = 2**17
OnProgress = Callable[[int, int], None]


def recommend_everybody(
    ranker: Ranker, output: Path, users: pl.Series | None, k: int, conditions: Conditions, part: tuple[int, int],
    on_progress: OnProgress,
) -> int:  # fmt: skip
    """Write user_id, rank (from 1), item_id and score for each user; returns the number of users.

    `users` are raw ids, None for all of the run, of which `part` (n, of) takes the n-th of `of` equal parts. The rows
    go to files in `<output>.parts`, each complete or absent, and at the end into `output`. A second run with the same
    arguments keeps the files that are there. Raises InputError if `output` exists or cannot be written.
    """
    if output.exists():
        raise InputError(f"{output} exists already; choose another --output, or delete it")
    if output.suffix not in FORMATS:
        raise InputError(f"{output} ends in '{output.suffix}'; choose {', '.join(FORMATS)}")
    run = ranker.run
    ids = run.users.ids if users is None else users
    number, of = part
    ids = ids.slice(len(ids) * (number - 1) // of, len(ids) * number // of - len(ids) * (number - 1) // of)
    folder = output.with_name(f"{output.name}.parts")
    try:
        _claim(folder, _identity(ranker, ids, k, conditions))
        files = []
        for start in range(0, len(ids), USERS_A_FILE):
            files.append(folder / f"{start:012}{output.suffix}")
            if not files[-1].exists():
                some = ids[start : start + USERS_A_FILE]
                done = partial(_tell, on_progress, start, len(ids))
                _write(files[-1], _rankings(ranker, some, k, conditions, done))
            on_progress(min(start + USERS_A_FILE, len(ids)), len(ids))
        _join(files, output)
    except OSError as error:
        raise InputError(
            f"cannot write {output}: {error.strerror or error}; what is whole stays in {folder}, and the same command "
            "goes on from there"
        ) from error
    shutil.rmtree(folder)
    return len(ids)


def _tell(on_progress: OnProgress, before: int, total: int, done: int) -> None:
    on_progress(before + done, total)


def _identity(ranker: Ranker, ids: pl.Series, k: int, conditions: Conditions) -> str:
    """A digest of what the rows depend on."""
    weights = ranker.run.folder / "weights.pt"
    said = json.dumps([k, repr(conditions), len(ids), [column.name for column in ranker.columns]])
    content = weights.read_bytes() + said.encode() + ids.hash(0).to_numpy().tobytes()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _claim(folder: Path, identity: str) -> None:
    """Make the folder of the parts, or take one that was begun with the same arguments."""
    note = folder / "made-by-ncf-recommend"
    if folder.exists():
        if not note.is_file() or note.read_text() != identity:
            raise InputError(
                f"{folder} holds something else, or was begun with another run or other options; choose another "
                "--output, or delete it"
            )
        return
    folder.mkdir(parents=True)
    note.write_text(identity)


def _rankings(
    ranker: Ranker, ids: pl.Series, k: int, conditions: Conditions, on_done: Callable[[int], None]
) -> pl.DataFrame:
    index = ranker.run.users.encode(ids)
    items, scores, done = [], [], 0
    for item, score in ranker.many(index, k, conditions):
        items.append(item)
        scores.append(score)
        done += len(item)
        on_done(done)
    best, values = torch.cat(items).numpy(), torch.cat(scores).numpy()
    row, place = np.nonzero(best >= 0)
    return pl.DataFrame(
        {
            "user_id": ids.gather(row),
            "rank": (place + 1).astype(np.int32),
            "item_id": ranker.run.items.ids.gather(best[row, place]),
            "score": values[row, place],
        }
    )


def _write(path: Path, frame: pl.DataFrame) -> None:
    unfinished = path.with_suffix(".partial")
    try:
        if path.suffix == ".parquet":
            frame.write_parquet(unfinished)
        elif path.suffix == ".csv":
            frame.write_csv(unfinished, include_header=path.stem == "0" * 12)
        else:
            frame.write_ndjson(unfinished)
        unfinished.rename(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        with suppress(OSError):
            unfinished.unlink()
        raise OSError(getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)) from error


def _join(files: list[Path], output: Path) -> None:
    """One file of the parts, which appears when it is whole."""
    unfinished = output.with_name(f".{output.name}.partial")
    try:
        if output.suffix == ".parquet":
            pl.scan_parquet(files, glob=False).sink_parquet(unfinished)
        else:
            with unfinished.open("wb") as target:
                for path in files:
                    with path.open("rb") as source:
                        shutil.copyfileobj(source, target, 2**20)
        unfinished.rename(output)
    except (OSError, pl.exceptions.PolarsError) as error:
        with suppress(OSError):
            unfinished.unlink()
        raise OSError(getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)) from error
