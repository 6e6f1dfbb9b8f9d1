"""What a search writes beside its study: a table of the trials, the best settings as a preset file, and a page."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ncf.training.config import TrainConfig
from ncf.training.nothing_lost import OwnFiles
from ncf.training.presets import preset_values
from ncf.tuning.ranges import Range
from ncf.tuning.study import REASON, finished, is_failed

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

BEST, TRIALS, REPORT = "best.json", "trials.csv", "report.html"
DONE, PRUNED, FAILED = "done", "pruned", "failed"


@dataclass(frozen=True)
class Row:
    """A trial: its place from 1, how it ended, its best epoch's figures (a pruned one's until then), its settings."""

    trial: int
    state: str
    ndcg_at_10: float | None
    hit_rate_at_10: float | None
    best_epoch: int | None
    epochs: int
    seconds: float
    settings: dict[str, Any]
    reason: str

    @property
    def words(self) -> str:
        """The settings in a line."""
        return ", ".join(f"{name} {value}" for name, value in self.settings.items())

    @classmethod
    def of(cls, place: int, trial: FrozenTrial, ranges: Sequence[Range]) -> Row:
        from optuna.trial import TrialState

        known = trial.intermediate_values
        state = FAILED if is_failed(trial) else DONE if trial.state == TrialState.COMPLETE else PRUNED
        best = max(known, key=lambda epoch: known[epoch]) if known and state != FAILED else None
        return cls(
            place,
            state,
            None if best is None else known[best],
            trial.user_attrs.get("hit_rate_at_10"),
            best,
            len(known),
            trial.user_attrs["seconds"],
            {
                each.setting: each.setting_of(trial.params[each.setting])
                for each in ranges
                if each.setting in trial.params
            },
            trial.user_attrs.get(REASON, ""),
        )


@dataclass
class Results:
    """The ended trials of a study, and the files of its folder; `config` has no open settings."""

    folder: Path
    study: Study
    config: TrainConfig
    ranges: Sequence[Range]

    def __post_init__(self) -> None:
        self._own = OwnFiles()

    def rows(self) -> list[Row]:
        """The trials that count, in their order."""
        return [Row.of(place, trial, self.ranges) for place, trial in enumerate(finished(self.study), start=1)]

    def write(self) -> None:
        """Write the table, and the preset file of the best trial if one was trained to its end."""
        rows = self.rows()
        self._replace(TRIALS, table_of(rows, self.ranges))
        if best := best_of(rows):
            values = preset_values(replace(self.config, **best.settings))
            self._replace(BEST, (json.dumps(values, indent=2) + "\n").encode())

    def write_page(self, page: str) -> None:
        self._replace(REPORT, page.encode())

    def _replace(self, name: str, content: bytes) -> None:
        """Write a file whole. One that no process of this search wrote is kept under another name."""
        path, written = self.folder / name, self.study.user_attrs.get("written", {})
        if path.is_file() and not path.is_symlink() and _digest(path.read_bytes()) == written.get(name):
            self._own.files.add(path)
        self._own.set_aside(path)
        part = path.with_name(f"{name}.part")
        part.write_bytes(content)
        part.replace(path)
        self.study.set_user_attr("written", written | {name: _digest(content)})


def best_of(rows: Sequence[Row]) -> Row | None:
    """The trial with the highest NDCG@10 of those that were trained to their end; the earliest of equal ones."""
    done = [row for row in rows if row.state == DONE]
    return max(done, key=lambda row: row.ndcg_at_10 or 0.0) if done else None


def table_of(rows: Sequence[Row], ranges: Sequence[Range]) -> bytes:
    """The trials as CSV."""
    figures = ("trial", "state", "ndcg_at_10", "hit_rate_at_10", "best_epoch", "epochs", "seconds")
    table = [
        {name: getattr(row, name) for name in figures}
        | {each.setting: row.settings.get(each.setting) for each in ranges}
        | {REASON: row.reason}
        for row in rows
    ]
    buffer = io.BytesIO()
    pl.DataFrame(table, infer_schema_length=None).write_csv(buffer)
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
