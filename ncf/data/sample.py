"""Generated catalogues with a known taste of each user, to try and to test the product.

Every item belongs to one group (a cuisine, a style). Every user has a favourite and a second group: an interaction is
with the favourite group with probability .65, with the second with .25, and with any group with .10. Within a group the
items follow Zipf's law with exponent .8. All groups are equally popular, so popularity does not reveal a user's taste:
a model that learns the groups ranks a held-out item among about 1/12 of the catalogue, popularity among the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

FAVOURITE, SECOND = 0.65, 0.25
ZIPF_EXPONENT = 0.8
MIN_INTERACTIONS, MAX_INTERACTIONS = 10, 40
START, SECONDS_BETWEEN = 1_700_000_000, 40_000


@dataclass(frozen=True)
class Catalogue:
    """Groups of items, and whether users are called u1, u2, … or by whole numbers."""

    groups: tuple[str, ...]
    items_per_group: int
    num_users: int
    user_prefix: str
    seed: int


CATALOGUES = {
    "food": Catalogue(
        groups=(
            "burger", "curry", "dumpling", "falafel", "noodles", "pasta",
            "pizza", "poke", "salad", "soup", "sushi", "taco",
        ),
        items_per_group=25,
        num_users=1200,
        user_prefix="u",
        seed=17,
    ),
    "fashion": Catalogue(
        groups=(
            "boots", "casual", "denim", "evening", "gothic", "knitwear", "linen",
            "office", "outdoor", "running", "sneakers", "streetwear", "swim", "vintage",
        ),
        items_per_group=30,
        num_users=1500,
        user_prefix="",
        seed=71,
    ),
}  # fmt: skip


def generate(catalogue: Catalogue) -> pl.DataFrame:
    """Interactions of a catalogue: user_id, item_id (such as `sushi-07`), timestamp (Unix seconds), oldest first."""
    random = np.random.default_rng(catalogue.seed)
    num_groups, per_group = len(catalogue.groups), catalogue.items_per_group
    within = np.arange(1, per_group + 1) ** -ZIPF_EXPONENT
    within /= within.sum()
    users, items, times = [], [], []
    for user in range(1, catalogue.num_users + 1):
        favourite, second = random.choice(num_groups, 2, replace=False)
        taste = np.full(num_groups, (1 - FAVOURITE - SECOND) / num_groups)
        taste[favourite] += FAVOURITE
        taste[second] += SECOND
        count = random.integers(MIN_INTERACTIONS, MAX_INTERACTIONS, endpoint=True)
        chosen = random.choice(num_groups * per_group, count, replace=False, p=np.outer(taste, within).ravel())
        users += [user] * count
        items += [f"{catalogue.groups[item // per_group]}-{item % per_group + 1:02}" for item in chosen]
        times += (START + np.cumsum(random.integers(1, SECONDS_BETWEEN, count))).tolist()
    frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times})
    if catalogue.user_prefix:
        frame = frame.with_columns(user_id=pl.format(f"{catalogue.user_prefix}{{}}", "user_id"))
    return frame.sort("timestamp", maintain_order=True)
