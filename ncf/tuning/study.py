"""The storage of a search: Optuna's study in a SQLite file, with the data and settings that it belongs to."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ncf.errors import InputError

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

STUDY = "study.sqlite3"
REASON = "reason"  # of a trial that failed; a trial that failed without one was cut short, and does not count


def require_optuna() -> None:
    """Raises InputError if Optuna is not installed, which is an optional part of the package."""
    if find_spec("optuna") is None:
        raise InputError("`ncf tune` searches with Optuna, which is not installed here: pip install 'ncf-triton[tune]'")


@contextmanager
def open_study(folder: Path, identity: Mapping[str, str], warmup: int) -> Iterator[Study]:
    """The study in a folder, new or continued, for this process alone; `warmup` epochs of a trial are never pruned.

    Raises InputError if the folder holds anything else, if the study has another identity, or another process has it.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import StaticPool

    path = folder / STUDY
    if folder.exists() and not path.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already and holds no search; choose another --output")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            # The path is not in the URL, where a "?" or a "{" of its name would mean something else.
            connect = {"creator": partial(sqlite3.connect, path), "poolclass": StaticPool}
            storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=connect)
            try:
                pruner = optuna.pruners.MedianPruner(n_warmup_steps=warmup)
                study = optuna.create_study(
                    storage=storage, study_name="ncf tune", direction="maximize", pruner=pruner, load_if_exists=True
                )
                _check_identity(path, study, identity)
                yield study
            finally:
                storage.remove_session()
                storage.engine.dispose()
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}; choose another --output") from error
    except SQLAlchemyError as error:
        raise InputError(f"{path} is damaged, or no study: {error.args[0]}; choose another --output") from error
    except optuna.exceptions.StorageInternalError as error:
        raise InputError(
            f"cannot write {path}: {error.__cause__ or error}; trials that have ended are kept, and the same command "
            "continues"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder, which ends with the process, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InputError(f"another `ncf tune` works in {folder}; wait for it, or choose another --output") from error
    finally:
        os.close(descriptor)


def _check_identity(path: Path, study: Study, identity: Mapping[str, str]) -> None:
    there: dict[str, str] | None = study.user_attrs.get("identity")
    if there is None:
        study.set_user_attr("identity", dict(identity))
        return
    for what in (*identity, *there):
        its, mine = (each.get(what, "None") for each in (there, identity))
        if its != mine:
            its, mine = (value if value != "None" else "not given" for value in (its, mine))
            raise InputError(
                f"{path} is a search with {what} {its}, this one has {mine}; give the data and options of that search, "
                "or another --output"
            )


def finished(study: Study) -> list[FrozenTrial]:
    """The trials that count: trained to their end, pruned, or failed."""
    return [trial for trial in study.trials if is_finished(trial)]


def is_finished(trial: FrozenTrial) -> bool:
    from optuna.trial import TrialState

    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or is_failed(trial)


def is_failed(trial: FrozenTrial) -> bool:
    from optuna.trial import TrialState

    return trial.state == TrialState.FAIL and REASON in trial.user_attrs


def begin(study: Study, seed: int, first: Mapping[str, float]) -> Trial:
    """The next trial, which has the settings `first` if no trial has ended.

    Its sampler is seeded by the number of ended trials, so that after an interruption the same trial comes again.
    """
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    ended, waiting = len(finished(study)), any(trial.state == TrialState.WAITING for trial in study.trials)
    if not ended and not waiting:
        study.enqueue_trial(dict(first))
    study.sampler = TPESampler(seed=(seed * 1_000_003 + ended) % 2**32, multivariate=True)
    return study.ask()


def end_cut_short(study: Study) -> None:
    """Close the trials that a killed process left open, or that this process does not go on with."""
    from optuna.trial import TrialState

    for trial in study.trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
