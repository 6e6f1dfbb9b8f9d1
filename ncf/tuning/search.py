"""Search for settings that rank the hold-out well, by Optuna's sampler of tree-structured Parzen estimators."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ncf.data.load import load_split
from ncf.data.splits import Split
from ncf.errors import InputError
from ncf.training import recipe
from ncf.training.checkpoints import identity_of
from ncf.training.config import TrainConfig
from ncf.training.loop import CUT_SHORT, Epoch, Watch
from ncf.training.nothing_lost import undisturbed
from ncf.training.world import world_size
from ncf.tuning.progress import SearchProgress
from ncf.tuning.ranges import Range, ranges_for
from ncf.tuning.report import importances, page
from ncf.tuning.results import FAILED, Results, Row, best_of
from ncf.tuning.study import REASON, begin, end_cut_short, finished, open_study, require_optuna

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial, TrialState

log = logging.getLogger(__name__)

NEVER_PRUNED = 4  # the first of so many parts of the epochs: the rate of exact training comes down late


@dataclass(frozen=True)
class Limits:
    """When a search ends: after so many trials in all, or when so many seconds have passed; both go on from there."""

    trials: int = 30
    max_seconds: float = math.inf

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InputError(f"trials is {self.trials}; it must be at least 1")


def search(
    data: Sequence[Path] | Split,
    output: Path,
    config: TrainConfig,
    fixed: Collection[str],
    device: torch.device,
    limits: Limits,
    say: Callable[[str], None] = log.info,
) -> Row:
    """Search for the settings whose best epoch has the highest NDCG@10 on the items that choose the epoch.

    The settings in `fixed` are kept as `config` has them, which is also the first trial. The folder `output` has the
    study, and what is written from it (`Results`). Held-out items are in no trial. Returns the best trial. Raises
    InputError.
    """
    require_optuna()
    require_searchable(config)
    deadline = time.monotonic() + limits.max_seconds
    split = data if isinstance(data, Split) else load_split(data, config.split)
    for line in split.look:
        say(line)
    plan = recipe.plan(split, config, device)
    say(plan.reason)
    ranges = ranges_for(plan.config, fixed)
    if not ranges:
        raise InputError("every setting that is searched is given; leave at least one out")
    identity = identity_of(config, plan.fit) | {f"the range of {each.setting}": str(each) for each in ranges}
    first = {each.setting: each.nearest(getattr(plan.config, each.setting)) for each in ranges}
    epochs = sum(recipe.stage_epochs(plan))
    with open_study(output, identity, epochs // NEVER_PRUNED) as study:
        end_cut_short(study)
        results = Results(output, study, plan.config, ranges)
        with SearchProgress(limits.trials, epochs, results) as progress:
            with suppress(KeyboardInterrupt):  # between two steps that are undisturbed
                while len(finished(study)) < limits.trials and time.monotonic() < deadline:
                    with undisturbed("the choice of settings") as received:
                        trial = begin(study, config.seed, first)
                    end = None if received else run(trial, plan, ranges, device, deadline, progress)
                    if end is None:
                        break
                    with undisturbed("the trial") as received:
                        end.record(study, trial)
                        results.write()
                        progress.on_end()
                    if received:
                        break
            with undisturbed("the end of the search"):
                end_cut_short(study)
            if len(finished(study)) < limits.trials:
                progress.say("the search is cut short; the same command continues it")
        rows = results.rows()
        best = best_of(rows)
        if best is None:
            failed = [f"; the first failed: {row.reason}" for row in rows if row.state == FAILED]
            raise InputError(f"no trial was trained to its end{(failed or ['; give the search more time'])[0]}")
        with undisturbed("the report"):
            results.write()
            shown = ", ".join(map(str, data)) if not isinstance(data, Split) else "a split"
            results.write_page(page(rows, best, ranges, importances(study), shown, plan.config))
        return best


def require_searchable(config: TrainConfig) -> None:
    """Raises InputError for settings with which trials could not be compared on the hold-out."""
    if world_size() > 1:
        raise InputError(f"a search is made by one process, and this one has {world_size()}; start `ncf tune` alone")
    if not config.validation:
        raise InputError("validation is 0, so there are no items to compare trials by; give at least 1")
    if config.is_folded or config.pretrain:
        raise InputError(
            "a search is for one model trained in one stage; leave out members, closed_form, fold_factors and pretrain "
            "here, and give them to `ncf train` with the preset that is found"
        )


def plan_for(plan: recipe.Plan, trial: Trial, ranges: Sequence[Range]) -> recipe.Plan:
    """The plan of a trial: the data, candidates and settings of the search, and the values that Optuna suggests."""
    values = {}
    for each in ranges:
        if each.whole:
            value: float = trial.suggest_int(each.setting, int(each.low), int(each.high), log=each.log)
        else:
            value = trial.suggest_float(each.setting, each.low, each.high, log=each.log)
        values[each.setting] = each.setting_of(value)
    return replace(plan, config=replace(plan.config, **values))


@dataclass(frozen=True)
class End:
    """How a trial ended: the state of Optuna's, the value of a trial that was trained to its end, and what is noted."""

    state: TrialState
    value: float | None
    noted: dict[str, str | float | None]

    def record(self, study: Study, trial: Trial) -> None:
        for name, what in self.noted.items():
            trial.set_user_attr(name, what)
        study.tell(trial, self.value, self.state)


def run(
    trial: Trial, plan: recipe.Plan, ranges: Sequence[Range], device: torch.device, deadline: float,
    progress: SearchProgress,
) -> End | None:  # fmt: skip
    """Train a trial; None if Ctrl-C or the deadline cut it short."""
    from optuna.exceptions import TrialPruned
    from optuna.trial import TrialState

    def on_epoch(epoch: Epoch) -> None:
        assert epoch.ndcg_at_10 is not None
        with undisturbed("the report of an epoch") as received:
            trial.report(epoch.ndcg_at_10, epoch.epoch)
            behind = trial.should_prune()
        if received:
            raise KeyboardInterrupt
        if behind:
            raise TrialPruned

    began = time.monotonic()
    state, value = TrialState.COMPLETE, None
    noted: dict[str, str | float | None] = {}
    try:
        mine = plan_for(plan, trial, ranges)
        result = recipe.train(mine, device, Watch(on_step=progress.on_step, on_epoch=on_epoch, deadline=deadline))
        if result.stopped in CUT_SHORT:
            return None
        assert result.best is not None
        value = result.ndcg_at_10
        noted = {"hit_rate_at_10": result.hit_rate_at_10, "best_epoch": result.best.epoch}
    except KeyboardInterrupt:
        return None
    except TrialPruned:
        state = TrialState.PRUNED
    except (InputError, RuntimeError, MemoryError) as error:  # the loss is not a number, or memory is short
        state, noted = TrialState.FAIL, {REASON: (str(error) or type(error).__name__).splitlines()[0]}
    return End(state, value, noted | {"seconds": round(time.monotonic() - began, 2)})
