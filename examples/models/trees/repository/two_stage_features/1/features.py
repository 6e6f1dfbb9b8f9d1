"""The features of a candidate. Training and serving import this one file, so that the two cannot differ."""

import numpy as np

NAMES = ("score", "behind_best", "place", "popularity", "activity", "share_of_group")


def features(known, user, item, score):
    """A row for each candidate, float32 [U · K, 6], from user [U], item [U, K] and score [U, K] of the first stage.

    `known` has, by index, `popularity` [items] and `activity` [users + 1], the logarithms of numbers of interactions,
    `group` [items], and `share` [users + 1, groups], each group's share of a user's interactions. The last user is
    nobody, whose index is -1.
    """
    columns = [
        score,
        score - score[:, :1],
        np.arange(item.shape[1])[None, :],
        known["popularity"][item],
        known["activity"][user][:, None],
        known["share"][user[:, None], known["group"][item]],
    ]
    return np.stack(np.broadcast_arrays(*columns), -1).reshape(-1, len(NAMES)).astype(np.float32)
