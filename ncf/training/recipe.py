"""From a split to a trained model: the items for the choice of the epoch, and the stages of a training."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from ncf.data.interactions import Interactions
from ncf.data.protocols import hold_out as hold_out_again
from ncf.data.protocols import some_of, trained_only
from ncf.data.splits import HeldOut, Split
from ncf.errors import InputError
from ncf.evaluation.ranking import Candidates, evaluate_sampled
from ncf.features.encoding import Features, FindFeatures, no_features
from ncf.models.blend import Blend, Scores, fold, usual_scale
from ncf.models.closed_form import edlae, scores
from ncf.models.features import FeaturedNCF
from ncf.models.learned_features import learned
from ncf.models.neural import NCF, joined
from ncf.models.seen import SeenItems
from ncf.training.config import TrainConfig
from ncf.training.cost import choose_negatives
from ncf.training.loop import (
    ALL_DONE,
    CUT_SHORT,
    INTERRUPTED,
    OUT_OF_TIME,
    Epoch,
    Refit,
    TrainResult,
    Watch,
    start_model,
    train_stage,
)
from ncf.training.nothing_lost import undisturbed
from ncf.training.run_directory import Run, require_start, warm

REFIT = "refit"  # the stages of a refit begin with it
CLOSED_FORM_ITEMS = 20_000  # EDLAE inverts a matrix of items × items


@dataclass(frozen=True)
class Plan:
    """A training before it starts: the data, the candidates for the choice of the epoch, all settings, and the reason.

    `asked` is the configuration of the user, in which settings may be open. `earlier` is the run whose parameters the
    model starts with. `until` makes it a refit: the last epoch of each stage that is trained again. `find` has the
    features of users and items by their ids, and `features` are those of `fit`.
    """

    fit: Interactions
    candidates: Candidates | None
    config: TrainConfig
    reason: str
    asked: TrainConfig
    earlier: Run | None = None
    until: Mapping[str, int] | None = None
    find: FindFeatures = no_features
    features: Features | None = None

    def stage(
        self, config: TrainConfig, device: torch.device, watch: Watch, name: str = "", start: NCF | None = None
    ) -> TrainResult:
        """Train one of the models of this plan."""
        if start is None and self.earlier is not None:
            cold = start_model(self.fit, config, torch.device("cpu"))
            start = warm(cold, self.fit, config, self.earlier).to(device)
        if self.until is None:
            return train_stage(self.fit, self.candidates, config, device, watch, name, start)
        refit = f"{REFIT}, {name}" if name else REFIT
        return train_stage(self.fit, None, config, device, watch, refit, start, self.until[name])


def plan(
    split: Split, config: TrainConfig, device: torch.device, processes: int = 1, earlier: Run | None = None,
    find: FindFeatures = no_features,
) -> Plan:  # fmt: skip
    """Cut the items for the choice of the epoch, and decide open settings. Raises InputError if that is impossible."""
    if earlier is not None:
        require_start(earlier, split, config)
    fit, candidates = hold_out(split, config, device)
    negatives, reason = choose_negatives(config, fit.num_users, fit.num_items, len(fit), processes)
    if len(fit) < processes:
        raise InputError(f"{processes} processes are more than the {len(fit)} interactions to train on; start fewer")
    resolved = config.resolved(negatives, warm=earlier is not None)
    return Plan(fit, candidates, resolved, reason, config, earlier, None, find, find(fit.users, fit.items))


def hold_out(split: Split, config: TrainConfig, device: torch.device) -> tuple[Interactions, Candidates | None]:
    """The interactions to train on, and the candidates for the choice of the epoch (None without a choice)."""
    if split.validation is not None and config.validation > 1:
        raise InputError(
            f"validation is {config.validation}; prepared data has one item of each user to choose the epoch by"
        )
    fit, held_out = cut(split, config)
    if held_out is None:
        return fit, None
    if config.split.split == "time":
        held_out = trained_only(fit, held_out)
    seed = config.split.seed
    candidates = Candidates.of(some_of(held_out, seed), split, device, seed)
    if len(candidates.user_index) == 0:
        raise InputError(
            "no user has an item to choose the best epoch by: that takes three interactions of one user (one to train "
            "on, one for the choice, one for `ncf evaluate`) and an item that the user has not seen; with validation 0 "
            "the last epoch is kept"
        )
    return fit, candidates


def cut(split: Split, config: TrainConfig) -> tuple[Interactions, HeldOut | None]:
    """The interactions that a configuration trains on, and the items of the split that choose the epoch, if any do.

    Those are cut from the training interactions as the held-out items were cut from all.
    """
    if not config.validation:
        return split.fitted(), None
    if split.validation is not None:
        return split.train, split.validation
    again = hold_out_again(split.train, replace(config.split, test=None, held_out=config.validation))
    return again.train, again.held_out


def train(plan: Plan, device: torch.device, watch: Watch | None = None) -> TrainResult:
    """Train by a plan. `train_stage` describes how a training ends early and continues."""
    watch = watch or Watch()
    if plan.features is not None:
        return train_featured(plan, plan.features, device, watch)
    if plan.config.pretrain and plan.earlier is None:
        return train_from_branches(plan, device, watch)
    if plan.config.is_folded:
        return train_folded(plan, device, watch)
    return plan.stage(plan.config, device, watch)


def refit(plan: Plan, split: Split, result: TrainResult, device: torch.device, watch: Watch) -> TrainResult:
    """Train once more, on all interactions, held-out ones too, with each stage as long as to its best epoch.

    The result has no refit if it was interrupted, or fails: then the model is what it is without one. All processes
    call this function.
    """
    if result.stopped == INTERRUPTED:
        return result
    until = watch.world.share({epoch.stage: epoch.epoch for epoch in result.chosen})
    try:
        fit = split.whole(plan.config.split)
        again = replace(plan, fit=fit, candidates=None, until=until, features=plan.find(fit.users, fit.items))
        watch.say(f"refitting to all {len(again.fit):,} interactions")
        found = train(again, device, watch)
    except KeyboardInterrupt:
        return replace(result, stopped=INTERRUPTED)
    except InputError as error:
        watch.say(f"the model is not refitted: {error}")
        return result
    if found.stopped == ALL_DONE:
        return replace(result, refit=Refit(fit, found.model, found.features))
    watch.say(f"the model is not refitted: {found.stopped}")
    return replace(result, stopped=INTERRUPTED) if found.stopped == INTERRUPTED else result


def train_featured(plan: Plan, features: Features, device: torch.device, watch: Watch) -> TrainResult:
    """Train a model with features; the model of the result has the sums as plain rows."""
    values = [None if side is None else side.values for side in (features.users, features.items)]
    model = FeaturedNCF(start_model(plan.fit, plan.config, device), *values).to(device)
    result = plan.stage(plan.config, device, watch, start=model)
    return replace(result, model=model.folded(), features=learned(model, features))


def train_from_branches(plan: Plan, device: torch.device, watch: Watch) -> TrainResult:
    """Train a NeuMF that starts from a GMF and an MLP trained alone (paper, section 3.4.1)."""
    fit, candidates, config = plan.fit, plan.candidates, plan.config
    alone: list[TrainResult] = []
    for name in ("gmf", "mlp"):
        branch = replace(config, model=name, pretrain=False)
        alone.append(plan.stage(branch, device, watch, name))
        if alone[-1].stopped in CUT_SHORT:  # a later run must train it to its end, so the next stage is not saved
            watch = replace(watch, checkpoints=None)
        if alone[-1].stopped == INTERRUPTED:
            break
    if len(alone) < 2:
        raise KeyboardInterrupt
    start = joined(start_model(fit, config, device), alone[0].model, alone[1].model)
    if alone[1].stopped == INTERRUPTED:
        return made_of("joined from its two branches", start.eval(), candidates, config, alone, INTERRUPTED)
    result = plan.stage(config, device, watch, "neumf", start)
    parts = (*alone, result)
    return replace(result, epochs=epochs_of(parts), chosen=chosen_of(parts))


def train_folded(plan: Plan, device: torch.device, watch: Watch) -> TrainResult:
    """Train several GMFs that differ by their seed, blend them (with EDLAE if configured), and fold them into one."""
    fit, candidates, config = plan.fit, plan.candidates, plan.config
    if config.closed_form and fit.num_items > CLOSED_FORM_ITEMS:
        raise InputError(
            f"closed_form is {config.closed_form} and the data has {fit.num_items:,} items; EDLAE inverts a matrix of "
            f"items × items, which is possible for at most {CLOSED_FORM_ITEMS:,} items: leave it out"
        )
    members: list[TrainResult] = []
    stopped = ""
    for number, alone in enumerate(member_configs(plan)):
        if members and time.monotonic() >= watch.deadline:
            stopped = OUT_OF_TIME
            break
        try:
            stage = f"member {number + 1}" if config.num_members > 1 else ""
            if plan.until is not None and stage not in plan.until:
                break  # nor is it in the model that is refitted
            member = plan.stage(alone, device, watch, stage)
        except KeyboardInterrupt:
            if not members:
                raise
            stopped = INTERRUPTED
            break
        stopped = member.stopped
        if members and stopped in CUT_SHORT:
            break  # its learning rate had not come down: the blend is better without it
        members.append(member)
        if stopped in CUT_SHORT:
            break
    with undisturbed("the folding") as received:  # a signal must not lose the trained members
        model = folded(plan, [member.model for member in members], device, watch)
    if received:
        stopped = INTERRUPTED
    made = f"folded from {len(members)} GMF{'s' * (len(members) > 1)}{' and EDLAE' * (config.closed_form > 0)}"
    return made_of(made, model, candidates, config, members, stopped)


def made_of(
    made: str, model: NCF, candidates: Candidates | None, config: TrainConfig, parts: list[TrainResult], stopped: str
) -> TrainResult:
    """The result of a training whose model was made of several, and was measured as a whole."""
    quality = evaluate_sampled(model, candidates) if candidates else {}
    figures = quality.get("HR@10"), quality.get("NDCG@10")
    return TrainResult(model, config, epochs_of(parts), None, stopped, *figures, made, chosen_of(parts))


def epochs_of(parts: Sequence[TrainResult]) -> tuple[Epoch, ...]:
    return tuple(epoch for part in parts for epoch in part.epochs)


def chosen_of(parts: Sequence[TrainResult]) -> tuple[Epoch, ...]:
    return tuple(epoch for part in parts for epoch in part.chosen)


def folded(plan: Plan, members: list[NCF], device: torch.device, watch: Watch) -> NCF:
    """The GMF folded from the members and, if configured, EDLAE."""
    fit, config = plan.fit, plan.config
    share = (1 - config.closed_form) / len(members)
    parts: list[tuple[float, Scores]] = [(share, member.catalogue()) for member in members]
    scale, offset = usual_scale([each for _, each in parts], fit.num_users, device)
    if config.closed_form:
        watch.say(f"solving EDLAE for {fit.num_items:,} items")
        seen = SeenItems.of_interactions(fit, device)
        parts.append((config.closed_form, partial(scores, seen, item_item=edlae(seen))))
    watch.say(f"folding {len(parts)} models into one GMF of {config.result_factors} factors")
    blend = Blend(parts, fit.num_users, fit.num_items, device)
    return fold(blend, config.result_factors, scale, offset, config.seed)


def stage_epochs(plan: Plan) -> list[int]:
    """The most epochs of each model that a plan trains, in their order."""
    stages = 3 if plan.config.pretrain and plan.earlier is None else 1
    configs = member_configs(plan) if plan.config.is_folded else [plan.config] * stages
    return [each.epochs for each in configs if each.epochs is not None]


def member_configs(plan: Plan) -> list[TrainConfig]:
    """The configurations of all members: as configured, with negatives among all items, and by softmax.

    Open settings of the softmax members have the defaults of softmax.
    """
    config = plan.config
    alone, asked = (
        replace(each, members=1, among_all_members=0, softmax_members=0, closed_form=0.0, fold_factors=0)
        for each in (config, plan.asked)
    )
    kinds = [alone] * config.members
    if config.among_all_members:  # which loss bce alone has
        kinds += [replace(alone, negatives_among="all")] * config.among_all_members
    if config.softmax_members:
        softmax = replace(asked, loss="softmax", negatives="exact", negatives_among="unseen")
        kinds += [softmax.resolved("exact")] * config.softmax_members
    return [replace(kind, seed=(config.seed + number * 1_000_003) % 2**63) for number, kind in enumerate(kinds)]
