"""The configuration of a training run; `presets.py` has named configurations."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ncf.data.splits import SPLITS, SplitOptions
from ncf.errors import InputError
from ncf.files.reading import Columns, Reading

MODEL_NAMES = ("gmf", "mlp", "neumf")
LOSSES = ("bce", "softmax", "squares", "spectral")
SCHEDULES = ("constant", "cosine")
AMONG = ("unseen", "all", "popular")
EVALUATION_AMONG = ("unseen", "popular")
PRECISIONS = ("auto", "fp32", "bf16")
DEVICES = ("auto", "cpu", "gpu")
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
DEFAULT_K = 100
DEFAULT_NEGATIVES = 4  # negatives for each positive if sampling is chosen (paper, section 4.1)

# Defaults of settings that the user does not give; they differ between sampled and exact training.
SAMPLED: dict[str, Any] = {
    "batch_size": 8192, "learning_rate": 0.003, "schedule": "constant", "l2": 0.0, "dropout": 0.0, "epochs": 20,
    "patience": 4,
}  # fmt: skip
EXACT: dict[str, Any] = {
    "batch_size": 2**21, "learning_rate": 0.03, "schedule": "cosine", "l2": 0.0015, "dropout": 0.1, "epochs": 40,
    "patience": 40,
}  # fmt: skip
SOFTMAX: dict[str, Any] = {"l2": 0.04, "epochs": 70, "patience": 70}  # the other settings are those of EXACT
SQUARES: dict[str, Any] = {"l2": 0.003, "epochs": 8, "patience": 8}
SPECTRAL: dict[str, Any] = {"epochs": 1, "patience": 1}
CLOSED = ("squares", "spectral")  # losses of a GMF whose factors have a closed form
OF_GRADIENTS = ("batch_size", "learning_rate", "schedule", "dropout")  # settings that those do not have
WARM_SHARE = 0.15  # of the usual epochs are enough after a warm start (docs/log.md)


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of a run; None stands for the default of the way of training (`SAMPLED`, `EXACT`).

    `batch_size` counts samples: a positive and its drawn negatives, or in exact training a user's pairs with all items.
    `seed` is the seed of the training, `split` has that of the split. Raises InputError for an invalid value.
    """

    model: str = "neumf"
    num_factors: int = 16
    num_layers: int = 3
    loss: str = "bce"
    negatives: str = "auto"
    negatives_among: str = "unseen"
    negative_weight: float = 16.0
    dropout: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    schedule: str | None = None
    l2: float | None = None
    epochs: int | None = None
    patience: int | None = None
    validation: int = 1
    pretrain: bool = False
    members: int = 1
    among_all_members: int = 0
    softmax_members: int = 0
    closed_form: float = 0.0
    fold_factors: int = 0
    precision: str = "auto"
    refit: bool = False
    seed: int = 0
    split: SplitOptions = field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        for name, choices in (
            ("model", MODEL_NAMES), ("loss", LOSSES), ("schedule", SCHEDULES), ("precision", PRECISIONS),
            ("negatives_among", AMONG),
        ):  # fmt: skip
            if (value := getattr(self, name)) is not None and value not in choices:
                raise InputError(f"{name} is '{value}'; choose {', '.join(choices)}", field=name)
        for name, low, high in (
            ("num_factors", 1, 8192), ("num_layers", 1, 12), ("epochs", 1, 10**9), ("patience", 1, 10**9),
            ("seed", 0, 2**63 - 1), ("batch_size", 2, 2**40), ("validation", 0, 10**6), ("members", 1, 100),
            ("softmax_members", 0, 100), ("among_all_members", 0, 100), ("fold_factors", 0, 8192),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                bound = f"least {low}" if value < low else f"most {high}"
                raise InputError(f"{name} is {value}; it must be at {bound}", field=name)
        for name, low, below in (("dropout", 0, 1), ("l2", 0, math.inf), ("closed_form", 0, 1)):
            value = getattr(self, name)
            if value is not None and not low <= value < below:
                end = "finite" if below == math.inf else f"below {below}"
                raise InputError(f"{name} is {value}; it must be at least {low} and {end}", field=name)
        for name in ("learning_rate", "negative_weight"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} is {value}; it must be above 0 and finite", field=name)
        if self.validation > 1 and self.split.split != SPLITS[0]:
            raise InputError(
                f"validation is {self.validation}, and split is {self.split.split}, which cuts the items for the "
                "choice of the epoch in the same way: give 1, or 0 to keep the last epoch",
                field="validation",
            )
        self._check_negatives()
        self._check_recipe()

    def _check_negatives(self) -> None:
        if self.negatives in ("auto", "exact"):
            return
        if not self.negatives.isdecimal() or not 1 <= int(self.negatives) <= 10_000:
            raise InputError(
                f"negatives is '{self.negatives}'; choose auto, exact, or a whole number from 1 to 10000",
                field="negatives",
            )
        if self.loss != "bce":
            raise InputError(
                f"loss {self.loss} is computed over all items; negatives is {self.negatives}, give exact or auto"
            )
        if self.batch_size is not None and self.batch_size < 1 + int(self.negatives):
            raise InputError(
                f"batch_size is {self.batch_size}; one positive with its {self.negatives} negatives needs at least "
                f"{1 + int(self.negatives)}",
                field="batch_size",
            )

    def _check_recipe(self) -> None:
        if self.pretrain and self.model != "neumf":
            raise InputError(
                f"pretrain is for neumf, whose branches it trains first; model is {self.model}", field="pretrain"
            )
        if self.is_folded and self.model != "gmf":
            raise InputError(
                "members, closed_form and fold_factors need model gmf, because the folded model is a gmf; "
                f"model is {self.model}"
            )
        if self.loss != "bce" and (self.negatives_among != "unseen" or self.among_all_members):
            name = "among_all_members" if self.among_all_members else "negatives_among"
            raise InputError(f"{name} is for loss bce; loss {self.loss} draws no negatives", field=name)
        if self.softmax_members and self.loss == "softmax":
            raise InputError(
                "softmax_members are added to members of loss bce; loss is softmax already, give members",
                field="softmax_members",
            )
        if self.loss in CLOSED:
            self._check_closed()

    def _check_closed(self) -> None:
        if self.model != "gmf":
            raise InputError(
                f"loss {self.loss} needs model gmf, whose factors have a closed form; model is {self.model}",
                field="model",
            )
        if self.loss == "squares" and self.l2 == 0:
            raise InputError("l2 is 0; loss squares needs a ridge, such as 0.003", field="l2")
        if self.loss == "spectral" and (self.epochs or 1) > 1:
            raise InputError(f"epochs is {self.epochs}; loss spectral has its result after 1", field="epochs")
        for name in (*OF_GRADIENTS, *(["l2"] if self.loss == "spectral" else [])):
            if getattr(self, name) is not None:
                raise InputError(
                    f"{name} is {getattr(self, name)}; loss {self.loss} has a closed form without it: leave it out",
                    field=name,
                )

    @property
    def is_folded(self) -> bool:
        """Whether the result is one model folded from several, or with another number of factors."""
        return self.num_members > 1 or self.closed_form > 0 or self.fold_factors > 0

    @property
    def num_members(self) -> int:
        """Number of models that are trained and folded into one."""
        return self.members + self.among_all_members + self.softmax_members

    @property
    def result_factors(self) -> int:
        """Number of factors of the resulting model."""
        return self.fold_factors or self.num_factors

    @property
    def num_train_negatives(self) -> int:
        """Negatives drawn for each positive; `negatives` must be a number."""
        return int(self.negatives)

    def resolved(self, negatives: str, warm: bool = False) -> TrainConfig:
        """The same configuration with every default filled in, for these `negatives` (exact or a number).

        A `warm` start has fewer epochs by default.
        """
        exact = {"bce": EXACT, "softmax": {**EXACT, **SOFTMAX}, "squares": SQUARES, "spectral": SPECTRAL}
        usual = exact[self.loss] if negatives == "exact" else SAMPLED
        if warm:
            usual = {**usual, "epochs": math.ceil(WARM_SHARE * usual["epochs"])}
        open_ = {name: value for name, value in usual.items() if getattr(self, name) is None}
        return replace(self, negatives=negatives, **open_)

    def to_dict(self) -> dict[str, Any]:
        """Every setting by its name, with those of the split; `split_seed` only if it differs from `seed`.

        So that checkpoints of before go on, settings that came later are there only if they are not the default.
        """
        values = asdict(self)
        split = values.pop("split")
        split_seed = split.pop("seed")
        for name, usual in (("split", SPLITS[0]), ("test_share", None), ("test", None)):
            if split[name] == usual:
                del split[name]
        split["reading"] = self.split.reading.to_dict()
        if not self.refit:
            del values["refit"]
        return {**values, **split} | ({} if split_seed == self.seed else {"split_seed": split_seed})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The configuration that `to_dict` wrote; a setting that is missing has its default."""
        own = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        of_split = {each.name: values[each.name] for each in fields(SplitOptions) if each.name in values}
        # Runs of before named the optional columns even if the data did not have them.
        named = {what: name for what, name in values.get("columns", {}).items() if name != what}
        of_split["columns"] = Columns(**named)
        of_split["reading"] = Reading(**values.get("reading", {}))
        of_split["seed"] = values.get("split_seed", values.get("seed", 0))
        return cls(**{**own, "split": SplitOptions(**of_split)})


def seconds(text: str) -> float:
    """`90`, `90s`, `30m` or `2h` in seconds. Raises InputError for anything else."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text.strip())
    if not match or not 0 < float(match[1]) < math.inf:
        raise InputError(
            f"max_time is '{text}'; give seconds, or a number with s, m or h, such as 30m", field="max_time"
        )
    return float(match[1]) * SECONDS[match[2]]
