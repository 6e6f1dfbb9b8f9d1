"""Estimate the work of an epoch over all cells of the matrix, and of one over the positives with drawn negatives."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from ncf.errors import InputError
from ncf.training.config import CLOSED, DEFAULT_NEGATIVES, EXACT, SAMPLED, TrainConfig

# Multiply-adds of a large matrix product that take as long as moving one byte: a CPU core with AVX-512 does about 50
# billion multiply-adds or moves 10 billion bytes a second (`make bench-train` measures both); a GPU's ratio is higher.
MULTIPLY_ADDS_PER_BYTE = 5
FLOAT = 4
STEPS_AN_EPOCH, LEAST_USERS = 12, 32
LARGE = 2**17  # items; with more, the scores of LEAST_USERS users are too many for a step
ADAM_FLOATS = 7  # for each parameter: parameter, gradient and two moments are read, and three of these written


@dataclass(frozen=True)
class Work:
    """Bytes moved in one epoch, multiplications converted to bytes: over all cells, and with drawn negatives."""

    exact: float
    sampled: float


def multiply_adds(config: TrainConfig) -> int:
    """Multiply-adds of one forward pass of a pair through the tower, the item half of its first layer included."""
    if config.model == "gmf":
        return 0
    sizes = [int(config.num_factors * 2**power) for power in reversed(range(config.num_layers))]
    return sizes[0] * sizes[0] // 2 + sum(fan_in * fan_out for fan_in, fan_out in pairwise(sizes))


def tower_floats(config: TrainConfig) -> int:
    """Floats of the tower's layers for one pair."""
    if config.model == "gmf":
        return 0
    return int(config.num_factors * (2**config.num_layers - 1))


def parameters(config: TrainConfig, num_users: int, num_items: int) -> int:
    """Floats in the embedding tables."""
    embedding = config.num_factors if config.model != "mlp" else 0
    if config.model != "gmf":
        embedding += max(1, int(config.num_factors * 2 ** (config.num_layers - 1)) // 2)
    return embedding * (num_users + num_items)


def users_of_a_step(batch_size: int, num_users: int, num_items: int) -> int:
    """Number of users in a step of exact training; with all items they are at most about `batch_size` cells.

    Small data is trained in several steps an epoch, else the weights would hardly change. A step has at least
    LEAST_USERS users, because a step of fewer is mostly the work of the optimiser.
    """
    most = max(1, -(-num_users // STEPS_AN_EPOCH))
    return min(max(batch_size // num_items, min(num_users, LEAST_USERS) if num_items <= LARGE else 1), most)


def count_work(config: TrainConfig, num_users: int, num_items: int, num_positives: int) -> Work:
    """The work of an epoch in both ways of training.

    A product has three passes: scores, gradient of the users, gradient of the items. The tower takes the same work for
    a cell as for a sample: the output of every layer and its gradient are written and read. The score of a cell is read
    or written about four times. A sample reads two rows of the tables and adds two gradients to them. In sampled
    training the optimiser updates all parameters in every step.
    """
    tower = 3 * multiply_adds(config) / MULTIPLY_ADDS_PER_BYTE + 4 * FLOAT * tower_floats(config)
    factors = config.num_factors if config.model != "mlp" else 0
    cell = 3 * factors / MULTIPLY_ADDS_PER_BYTE + 4 * FLOAT + tower
    num_negatives = DEFAULT_NEGATIVES if config.negatives in ("auto", "exact") else config.num_train_negatives
    samples = num_positives * (1 + num_negatives)
    floats = parameters(config, 1, 0)
    steps = samples / (config.batch_size or SAMPLED["batch_size"])
    optimizer = steps * ADAM_FLOATS * FLOAT * parameters(config, num_users, num_items)
    exact_steps = -(-num_users // users_of_a_step(config.batch_size or EXACT["batch_size"], num_users, num_items))
    exact_optimizer = exact_steps * ADAM_FLOATS * FLOAT * parameters(config, 0, num_items)
    return Work(num_users * num_items * cell + exact_optimizer, samples * (6 * FLOAT * floats + tower) + optimizer)


def require_one_process(config: TrainConfig, processes: int) -> None:
    """Raises InputError if several processes are to train exactly or to fold models, which only one process can."""
    if processes > 1 and (config.negatives == "exact" or config.loss != "bce" or config.is_folded):
        raise InputError(
            f"exact training and folded models are made by one process, and this training has {processes}; "
            "run `ncf train` in one process, or give --negatives N"
        )


def choose_negatives(
    config: TrainConfig, num_users: int, num_items: int, num_positives: int, processes: int = 1
) -> tuple[str, str]:
    """Choose `exact` or a number of negatives, and say why; a choice of the user stays.

    Raises InputError as `require_one_process` does.
    """
    require_one_process(config, processes)
    cells, drawn = num_users * num_items, num_positives * (1 + DEFAULT_NEGATIVES)
    if config.loss in CLOSED:
        kind = "alternating least squares" if config.loss == "squares" else "a singular value decomposition"
        return "exact", f"training is by {kind} over all {cells:,} cells"
    work = count_work(config, num_users, num_items, num_positives)
    if config.negatives == "exact" or config.loss == "softmax":
        chosen = "exact"
    elif config.negatives != "auto":
        return config.negatives, f"training is sampled: {config.negatives} drawn negatives for each positive, as set"
    else:
        chosen = "exact" if work.exact <= work.sampled and processes == 1 else str(DEFAULT_NEGATIVES)
    exact = f"all {cells:,} cells are about {work.exact / 1e9:,.3g} GB of work an epoch"
    sampled = f"{drawn:,} samples with {DEFAULT_NEGATIVES} drawn negatives {work.sampled / 1e9:,.3g} GB"
    kind = "exact" if chosen == "exact" else "sampled"
    alone = "; exact is for one process" if processes > 1 else ""
    return chosen, f"training is {kind}: {exact}, {sampled}{alone}"


def require_one_model(config: TrainConfig, processes: int) -> None:
    """Raises InputError if a training with features cannot be made: it is that of one model in one process."""
    if config.pretrain or config.is_folded:
        what = "pretrain starts from two other models" if config.pretrain else "it folds several models into one"
        raise InputError(
            f"features need a training of one model, and {what}; leave out pretrain, members, closed_form and "
            "fold_factors, and choose a preset without them, such as default or ml-1m"
        )
    if config.loss in CLOSED:
        raise InputError(
            f"features are learned by gradients, and loss is {config.loss}; give bce or softmax", field="loss"
        )
    if processes > 1:
        raise InputError(
            f"features are trained by one process, and there are {processes}; start one (of a job: processes 1)"
        )
