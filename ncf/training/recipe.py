"""From a split to a trained model: the items for the choice of the epoch, and the stages of a training."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from ncf.data.interactions import Interactions
from ncf.data.protocols import hold_out as hold_out_again
from ncf.data.protocols import trained_only
from ncf.data.splits import HeldOut, Split
from ncf.errors import InputError
from ncf.evaluation.ranking import Candidates, evaluate_sampled
from ncf.features.encoding import Features
from ncf.models.blend import Blend, Scores, fold
from ncf.models.closed_form import edlae, scores
from ncf.models.features import FeaturedNCF
from ncf.models.learned_features import learned
from ncf.models.neural import NCF
from ncf.models.seen import SeenItems
from ncf.training.config import TrainConfig
from ncf.training.cost import choose_negatives
from ncf.training.loop import CUT_SHORT, INTERRUPTED, OUT_OF_TIME, TrainResult, Watch, start_model, train_stage
from ncf.training.undisturbed import undisturbed

PRETRAINED_SHARE = 0.5  # of each branch in the prediction (paper, section 3.4.1)
CHOICE_ROWS = 50_000  # most held-out items that an epoch is measured on
CLOSED_FORM_ITEMS = 20_000  # EDLAE inverts a matrix of items × items


@dataclass(frozen=True)
class Plan:
    """A training before it starts: the data, the candidates for the choice of the epoch, all settings, and the reason.

    `asked` is the configuration of the user, in which settings may be open. `features` are those of users and items.
    """

    fit: Interactions
    candidates: Candidates | None
    config: TrainConfig
    reason: str
    asked: TrainConfig
    features: Features | None = None


def plan(
    split: Split, config: TrainConfig, device: torch.device, processes: int = 1, features: Features | None = None
) -> Plan:
    """Cut the items for the choice of the epoch, and decide open settings. Raises InputError if that is impossible."""
    fit, candidates = hold_out(split, config, device)
    negatives, reason = choose_negatives(config, fit.num_users, fit.num_items, len(fit), processes)
    if len(fit) < processes:
        raise InputError(f"{processes} processes are more than the {len(fit)} interactions to train on; start fewer")
    return Plan(fit, candidates, config.resolved(negatives), reason, config, features)


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
        return everything(split), None
    if split.validation is not None:
        return split.train, split.validation
    again = hold_out_again(split.train, replace(config.split, test=None, held_out=config.validation))
    return again.train, again.held_out


def everything(split: Split) -> Interactions:
    """All training interactions; those that prepared data keeps for the choice of the epoch have the mean weight."""
    train, aside = split.train, split.validation
    if aside is None or not len(aside):
        return train
    weight = train.weight
    return Interactions(
        train.users,
        train.items,
        np.concatenate([train.user_index, aside.user_index]),
        np.concatenate([train.item_index, aside.item_index]),
        None if weight is None else np.append(weight, np.full(len(aside), weight.mean(dtype=np.float64), np.float32)),
    )


def some_of(held_out: HeldOut, seed: int) -> HeldOut:
    """At most CHOICE_ROWS random held-out items, the same for a seed: so many measure an epoch to ±.002."""
    if len(held_out) <= CHOICE_ROWS:
        return held_out
    rows = np.sort(np.random.default_rng(seed).choice(len(held_out), CHOICE_ROWS, replace=False))
    return HeldOut(held_out.user_index[rows], held_out.item_index[rows])


def train(plan: Plan, device: torch.device, watch: Watch | None = None) -> TrainResult:
    """Train by a plan. `train_stage` describes how a training ends early and continues."""
    watch = watch or Watch()
    if plan.features is not None:
        return train_featured(plan, plan.features, device, watch)
    if plan.config.pretrain:
        return train_from_branches(plan, device, watch)
    if plan.config.is_folded:
        return train_folded(plan, device, watch)
    return train_stage(plan.fit, plan.candidates, plan.config, device, watch)


def require_one_model(config: TrainConfig, processes: int) -> None:
    """Raises InputError if a training with features cannot be made: it is that of one model in one process."""
    if config.pretrain or config.is_folded:
        what = "pretrain starts from two other models" if config.pretrain else "it folds several models into one"
        raise InputError(
            f"features need a training of one model, and {what}; leave out pretrain, members, closed_form and "
            "fold_factors, and choose a preset without them, such as default or ml-1m"
        )
    if processes > 1:
        raise InputError(
            f"features are trained by one process, and there are {processes}; start one (of a job: processes 1)"
        )


def train_featured(plan: Plan, features: Features, device: torch.device, watch: Watch) -> TrainResult:
    """Train a model with features; the model of the result has the sums as plain rows."""
    values = [None if side is None else side.values for side in (features.users, features.items)]
    model = FeaturedNCF(start_model(plan.fit, plan.config, device), *values).to(device)
    result = train_stage(plan.fit, plan.candidates, plan.config, device, watch, start=model)
    return replace(result, model=model.folded(), features=learned(model, features))


def train_from_branches(plan: Plan, device: torch.device, watch: Watch) -> TrainResult:
    """Train a NeuMF that starts from a GMF and an MLP trained alone (paper, section 3.4.1)."""
    fit, candidates, config = plan.fit, plan.candidates, plan.config
    alone: list[TrainResult] = []
    for name in ("gmf", "mlp"):
        branch = replace(config, model=name, pretrain=False)
        alone.append(train_stage(fit, candidates, branch, device, watch, name))
        if (
            alone[-1].stopped in CUT_SHORT
        ):  # a later run must train this branch to its end, so the next stage is not saved
            watch = replace(watch, checkpoints=None)
        if alone[-1].stopped == INTERRUPTED:
            break
    if len(alone) < 2:
        raise KeyboardInterrupt
    start = joined(start_model(fit, config, device), alone[0].model, alone[1].model)
    if alone[1].stopped == INTERRUPTED:
        return made_of("joined from its two branches", start.eval(), candidates, config, alone, INTERRUPTED)
    result = train_stage(fit, candidates, config, device, watch, "neumf", start)
    return replace(result, epochs=(*alone[0].epochs, *alone[1].epochs, *result.epochs))


@torch.no_grad()
def joined(neumf: NCF, gmf: NCF, mlp: NCF) -> NCF:
    """A NeuMF whose score is half the score of a GMF plus half the score of an MLP."""
    shares = [PRETRAINED_SHARE * model.predict.weight for model in (gmf, mlp)]
    for target, model in zip(neumf.branches, (gmf, mlp), strict=True):
        target.load_state_dict(model.branches[0].state_dict())
    neumf.predict.weight.copy_(torch.cat(shares, dim=1))
    neumf.predict.bias.copy_(PRETRAINED_SHARE * (gmf.predict.bias + mlp.predict.bias))
    neumf.item_bias.weight.copy_(PRETRAINED_SHARE * (gmf.item_bias.weight + mlp.item_bias.weight))
    return neumf


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
            member = train_stage(fit, candidates, alone, device, watch, stage)
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
    epochs = tuple(epoch for part in parts for epoch in part.epochs)
    return TrainResult(model, config, epochs, None, stopped, quality.get("HR@10"), quality.get("NDCG@10"), made)


def folded(plan: Plan, members: list[NCF], device: torch.device, watch: Watch) -> NCF:
    """The GMF folded from the members and, if configured, EDLAE."""
    fit, config = plan.fit, plan.config
    share = (1 - config.closed_form) / len(members)
    parts: list[tuple[float, Scores]] = [(share, member.catalogue()) for member in members]
    scale, offset = usual_scale([scores for _, scores in parts], fit, device)
    if config.closed_form:
        watch.say(f"solving EDLAE for {fit.num_items:,} items")
        seen = SeenItems.of_interactions(fit, device)
        parts.append((config.closed_form, partial(scores_of, seen=seen, item_item=edlae(seen))))
    watch.say(f"folding {len(parts)} models into one GMF of {config.result_factors} factors")
    blend = Blend(parts, fit.num_users, fit.num_items, device)
    return fold(blend, config.result_factors, scale, offset, config.seed)


def stage_epochs(plan: Plan) -> list[int]:
    """The most epochs of each model that a plan trains, in their order."""
    configs = member_configs(plan) if plan.config.is_folded else [plan.config] * (3 if plan.config.pretrain else 1)
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
    among_all = replace(alone, negatives_among="all")
    softmax = replace(asked, loss="softmax", negatives="exact", negatives_among="unseen").resolved("exact")
    kinds = [alone] * config.members + [among_all] * config.among_all_members + [softmax] * config.softmax_members
    return [replace(kind, seed=(config.seed + number * 1_000_003) % 2**63) for number, kind in enumerate(kinds)]


def scores_of(users: torch.Tensor, seen: SeenItems, item_item: torch.Tensor) -> torch.Tensor:
    return scores(seen, users, item_item)


@torch.no_grad()
def usual_scale(models: list[Scores], fit: Interactions, device: torch.device) -> tuple[float, float]:
    """Deviation over items and mean of the models' scores, for at most 1,024 users; the folded model gets the same."""
    users = torch.arange(fit.num_users, device=device)[:: -(-fit.num_users // 1024)]
    spread = [torch.std_mean(model(users).float(), dim=1, correction=0) for model in models]
    deviation, mean = (torch.stack([each[number].mean() for each in spread]).mean() for number in (0, 1))
    return float(deviation), float(mean)
