"""The baselines that a neural model has to beat: popularity, EASE and iALS, fitted on the same interactions.

Their settings follow from the training data alone; nothing is tuned on held-out items. With n the mean number of
interactions of a user, EASE's l2 is 8·n, iALS's regularization .09/√n and its unobserved weight 7·n divided by the
number of items. docs/decisions.md says how these rules were found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ncf.models.closed_form import ease
from ncf.models.least_squares import ials
from ncf.models.scorers import Factors, ItemItem, Popularity, Scorer
from ncf.models.seen import SeenItems

EASE_MAX_ITEMS = 20_000  # EASE needs three matrices of items × items at a time: 4.8 GB of float32
IALS_FACTORS = (96, 64, 32, 16)  # the first number whose work is within MAX_WORK
IALS_EPOCHS = 6
# Most multiply-adds for one baseline: one to two minutes on two cores, seconds on a GPU.
MAX_WORK = {"cpu": 2e12, "cuda": 2e14}


@dataclass(frozen=True)
class Baselines:
    """The scorers by name, the settings of each, and the reason for each baseline that is left out."""

    scorers: dict[str, Scorer] = field(default_factory=dict)
    settings: dict[str, dict[str, float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def fit_baselines(counts: Tensor, seen: SeenItems, say: Callable[[str], None] = lambda what: None) -> Baselines:
    """Fit popularity on `counts` [num_items], EASE and iALS on `seen`; `say` is called with the name of each step."""
    fitted = Baselines(scorers={"popularity": Popularity(counts)})
    bound = MAX_WORK[seen.items.device.type]
    num_users, num_items = len(seen.counts()), seen.num_items
    interactions = len(seen.items) / max(1, int((seen.counts() > 0).sum()))

    if num_items > EASE_MAX_ITEMS:
        reason = f"{num_items:,} items, and it inverts a matrix of items × items: {EASE_MAX_ITEMS:,} at the most"
        fitted.left_out["ease"] = reason
    elif (work := ease_work(num_users, num_items)) > bound:
        fitted.left_out["ease"] = f"{work:.1e} multiply-adds, {bound:.0e} at the most on this device"
    else:
        say("fitting EASE")
        l2 = 8.0 * interactions
        fitted.scorers["ease"] = ItemItem(seen, ease(seen, l2))
        fitted.settings["ease"] = {"l2": l2}

    work_of = {size: ials_work(len(seen.items), num_users + num_items, size) for size in IALS_FACTORS}
    num_factors = next((size for size, work in work_of.items() if work <= bound), None)
    if num_factors is None:
        least = work_of[IALS_FACTORS[-1]]
        fitted.left_out["ials"] = f"{least:.1e} multiply-adds, {bound:.0e} at the most on this device"
        return fitted
    say("fitting iALS")
    regularization, unobserved = 0.09 / interactions**0.5, min(1.0, 7.0 * interactions / num_items)
    users, items = ials(seen, num_factors, IALS_EPOCHS, regularization, unobserved)
    fitted.scorers["ials"] = Factors(users, items)
    fitted.settings["ials"] = {
        "factors": num_factors,
        "epochs": IALS_EPOCHS,
        "regularization": regularization,
        "unobserved_weight": unobserved,
    }
    return fitted


def ease_work(num_users: int, num_items: int) -> float:
    """Multiply-adds of EASE: the product XᵀX, the scores in both protocols, and the inverse."""
    return 3.0 * num_users * num_items**2 + float(num_items) ** 3


def ials_work(num_interactions: int, num_rows: int, num_factors: int) -> float:
    """Multiply-adds of iALS for users and items; a small Cholesky decomposition is slow: it counts as d³."""
    return (IALS_EPOCHS + 0.5) * (2.0 * num_interactions * num_factors**2 + float(num_rows) * num_factors**3)
