"""A random order of pairs that depends on nothing but their raw ids and a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data.interactions import IdIndex, IntArray

Hashes = npt.NDArray[np.uint64]
Order = Callable[[IntArray, IntArray], Hashes]
IDS_AT_ONCE = 2**16  # ids whose bytes are in memory at a time, with 24 bytes of numbers for each byte
GOLDEN = 0x9E3779B97F4A7C15


def random_order(users: IdIndex, items: IdIndex, seed: int) -> Order:
    """A function of user and item indices [N]: a pseudo-random number for each pair, by which pairs are sorted.

    The number is a function of the two raw ids, read as text, and of the seed. So the order of a user's pairs is the
    same on every machine and in every version, however many other users, items and rows there are, and also if the
    ids 1, 2, … become text because an id `u3` is added. Two pairs of one user have the same number with probability
    2^-64.
    """
    of_user, of_item = _mixed(_hashes(users) + np.uint64(seed)), _hashes(items)

    def order(user_index: IntArray, item_index: IntArray) -> Hashes:
        return _mixed(of_user[user_index] + of_item[item_index])

    return order


def _hashes(index: IdIndex) -> Hashes:
    """A hash of each id [n]: the sum of a random number for each byte at its place (tabulation hashing)."""
    parts = [
        _hashes_of(index.ids.slice(start, IDS_AT_ONCE).cast(pl.String)) for start in range(0, len(index), IDS_AT_ONCE)
    ]
    return np.concatenate([np.empty(0, np.uint64), *parts])


def _hashes_of(texts: pl.Series) -> Hashes:
    length = texts.str.len_bytes().to_numpy().astype(np.int64)
    end = length.cumsum()
    content = np.frombuffer("".join(texts.to_list()).encode(), np.uint8)
    place = np.arange(len(content)) - np.repeat(end - length, length)
    of_byte = _mixed((place * 256 + content).astype(np.uint64))
    total = np.append(np.uint64(0), of_byte.cumsum())  # sums modulo 2^64, as are their differences
    return _mixed(total[end] - total[end - length])


def _mixed(value: npt.NDArray[Any]) -> Hashes:
    """A step of SplitMix64 (Steele et al. 2014) for each value [N]: a bijection whose results look random."""
    value = value + np.uint64(GOLDEN)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value ^= value >> np.uint64(shift)
        value *= np.uint64(factor)
    return value ^ (value >> np.uint64(31))
