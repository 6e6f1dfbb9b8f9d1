"""What each protocol holds out: by hand, and as properties of any data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncf.data.interactions import IdIndex, Interactions
from ncf.data.load import load_split, split_frame
from ncf.data.prepare import prepare
from ncf.data.protocols import cut_time, hold_out
from ncf.data.splits import HeldOut, Split, SplitOptions
from ncf.errors import InputError

pytestmark = pytest.mark.core
Pair = tuple[str, str]


def frame(*rows: tuple[Any, ...]) -> pl.DataFrame:
    return pl.DataFrame([row[:3] for row in rows], ["user_id", "item_id", "timestamp"][: len(rows[0])], orient="row")


def raw(split: Split, which: Interactions | HeldOut) -> list[Pair]:
    users, items = split.train.users.decode(which.user_index), split.train.items.decode(which.item_index)
    return [(str(user), str(item)) for user, item in zip(users, items, strict=True)]


def held_line(split: Split) -> str:
    (line,) = [line for line in split.look if line.startswith("held out: ")]
    return line.removeprefix("held out: ")


DAYS = frame(  # a has four items, b two, c one, d comes late; z is only there late
    ("a", "v", 1), ("a", "w", 2), ("a", "x", 8), ("a", "z", 9), ("b", "w", 3), ("b", "v", 7), ("c", "x", 4),
    ("d", "v", 9), ("a", "v", 9),
)  # fmt: skip


def test_ratio_holds_out_a_share_of_each_user() -> None:
    split = split_frame(DAYS, SplitOptions(split="ratio", test_share=0.5))
    assert raw(split, split.held_out) == [("a", "z"), ("a", "v"), ("b", "v")]  # v again at 9 is the latest
    assert sorted(raw(split, split.train)) == [("a", "w"), ("a", "x"), ("b", "w"), ("c", "x"), ("d", "v")]
    assert held_line(split) == "each user's latest 50 % of the items by timestamp, 7 to 9"
    none = split_frame(DAYS.drop("timestamp"), SplitOptions(split="ratio", test_share=0.5))
    assert held_line(none) == "a random 50 % of each user's items, for there is no column of times"


def test_time_cuts_once_for_all() -> None:
    split = split_frame(DAYS, SplitOptions(split="time", test_share=0.55))
    # The nearest to 55 % of nine rows are five, from 7 on. Of those d and z are not known, and (a, v) was there before.
    assert sorted(raw(split, split.train)) == [("a", "v"), ("a", "w"), ("b", "w"), ("c", "x")]
    assert raw(split, split.held_out) == [("a", "x"), ("b", "v")]
    assert split.train.users.ids.to_list() == ["a", "b", "c"]
    assert split.train.items.ids.to_list() == ["v", "w", "x"]
    assert split.held_out.timestamp is not None
    assert split.held_out.timestamp.tolist() == [8, 7]
    assert held_line(split) == (
        "2 interactions from 7 on by timestamp, the latest 55.6 % of all; 2 are left out, for the training has no such "
        "user (1) or item (1); 1 repeat a pair of before"
    )


def test_the_minima_of_a_split_by_time_are_counted_before_the_cut() -> None:
    options = SplitOptions(split="time", test_share=0.5, min_item_interactions=2)
    rows = frame(("a", "x", 1), ("b", "x", 2), ("a", "y", 3), ("b", "z", 4), ("c", "x", 5), ("b", "y", 6), 
                 ("c", "y", 7), ("a", "z", 8))  # fmt: skip
    with pytest.raises(InputError, match="holds one item only"):  # y has two only with what comes later
        split_frame(rows, options)


@pytest.mark.parametrize(
    ("times", "share", "cut"),
    [
        ([1, 2, 3, 4, 5], 0.2, 5), ([1, 2, 3, 4, 5], 0.21, 5), ([1, 2, 3, 4, 5], 0.4, 4), ([5, 5, 5, 1], 0.1, 5),
        ([1, 5, 5, 5], 0.9, 5), ([1, 1, 1, 2], 0.9, 2), ([1, 2, 3, 4], 0.375, 4), ([4, 3, 2, 1], 0.999, 2),
    ],
)  # fmt: skip
def test_the_cut_is_the_nearest_between_two_times(times: list[int], share: float, cut: int) -> None:
    assert cut_time(np.array(times), share) == cut


def test_the_test_file_is_held_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, test = tmp_path / "data.csv", tmp_path / "test.csv"
    DAYS.write_csv(data)
    frame(("a", "z", 3), ("b", "x", 1), ("b", "x", 2), ("new", "v", 1), ("c", "new", 1), ("d", "v", 1)).write_csv(test)
    split = load_split(data, SplitOptions(test=str(test)))
    assert raw(split, split.held_out) == [("a", "z"), ("b", "x")]  # d has nothing else
    assert not set(raw(split, split.train)) & {("a", "z"), ("b", "x"), ("d", "v")}
    assert len(split.train) == 6
    words = "2 interactions of test.csv; 3 are left out, for the training has no such user (2) or item (1)"
    assert held_line(split) == words
    assert "2 interactions are held out as well" in caplog.text
    prepare([data], tmp_path / "prepared", SplitOptions(test=str(test)))
    prepared = load_split(tmp_path / "prepared")
    assert raw(prepared, prepared.held_out) == raw(split, split.held_out)
    assert prepared.validation is not None
    both = [*raw(prepared, prepared.train), *raw(prepared, prepared.validation)]
    assert sorted(both) == sorted(raw(split, split.train))
    assert held_line(prepared) == words


def test_a_test_file_of_other_ids_is_refused(tmp_path: Path) -> None:
    data, test = tmp_path / "data.csv", tmp_path / "test.csv"
    DAYS.write_csv(data)
    frame(("A", "Z", 3)).write_csv(test)
    with pytest.raises(InputError, match=r"test.csv: none of the 1 held-out interactions .* ids of the same kind"):
        load_split(data, SplitOptions(test=str(test)))
    DAYS.write_csv(test)
    with pytest.raises(InputError, match=r"all interactions of .*data.csv are held out as well; give other data"):
        load_split(data, SplitOptions(test=str(test)))
    with pytest.raises(InputError, match=r"nowhere.csv"):
        load_split(data, SplitOptions(test=str(tmp_path / "nowhere.csv")))


def test_a_prepared_ratio_is_the_one_in_memory(tmp_path: Path) -> None:
    random, data, options = np.random.default_rng(0), tmp_path / "data.csv", SplitOptions(split="ratio", test_share=0.3)
    for times in (True, False):
        rows = [(f"u{u}", i, int(random.integers(9))) for u in range(20) for i in range(u % 7 + 1)]
        (frame(*rows) if times else frame(*rows).drop("timestamp")).write_csv(data)
        prepare([data], tmp_path / f"prepared {times}", options)
        prepared, whole = load_split(tmp_path / f"prepared {times}", options), load_split(data, options)
        again = hold_out(whole.train, options)
        assert prepared.validation is not None
        assert sorted(raw(prepared, prepared.held_out)) == sorted(raw(whole, whole.held_out))
        assert sorted(raw(prepared, prepared.validation)) == sorted(raw(again, again.held_out))
        assert sorted(raw(prepared, prepared.train)) == sorted(raw(again, again.train))
        assert held_line(prepared) == held_line(whole)
    for other in (SplitOptions(split="ratio", test_share=0.4), SplitOptions(split="time"), SplitOptions(test="t.csv")):
        with pytest.raises(InputError, match=r"has its own split: .*(test_share|split|test) = .* cannot be applied"):
            load_split(tmp_path / "prepared True", other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "user"}, "split is 'user'; choose leave-one-out, ratio, time"),
        ({"split": "ratio", "test_share": 1.0}, r"test_share is 1.0; it must be above 0 and below 1, such as 0.2"),
        ({"split": "time", "test_share": float("nan")}, "test_share is nan; it must be above 0"),
        ({"test_share": 0.1}, "test_share is 0.1, and split is leave-one-out, .* give split ratio or time"),
        ({"split": "time", "held_out": 2}, "held_out is 2, and split is time, .* give test_share, or split leave"),
        ({"test": "t.csv", "held_out": 2}, "test is t.csv, .* so held_out cannot be 2; leave one of them out"),
        ({"test": "t.csv", "split": "time"}, "test is t.csv, .* so split cannot be time; leave one of them out"),
        ({"seed": -1}, "split_seed is -1; it must be at least 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SplitOptions(**options)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (frame(("a", "x"), ("a", "y"), ("b", "x")), "split is time, and .* has no column of times; name it with"),
        (frame(("a", "x", 5), ("a", "y", 5), ("b", "x", 5)), "all interactions have the same time"),
        (frame(("a", "x", 1), ("b", "y", 2), ("c", "z", 9)), "nothing is held out: 0 interactions from 9 on .* give"),
        (frame(("a", "x", 1), ("a", "y", 2), ("b", "x", 9)), "one user only"),
    ],
)  # fmt: skip
def test_data_that_time_cannot_split_are_refused(rows: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_frame(rows, SplitOptions(split="time"))


def test_prepare_refuses_time_and_says_what_does_it(tmp_path: Path) -> None:
    DAYS.write_csv(tmp_path / "d.csv")
    with pytest.raises(InputError, match=r"split is time, .* into a file of its own, and give it as test"):
        prepare([tmp_path / "d.csv"], tmp_path / "out", SplitOptions(split="time"))
    assert not (tmp_path / "out").exists()


INTERACTIONS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 8), st.integers(-3, 12)), min_size=4, max_size=60,
    unique_by=lambda row: row[:2],
)  # fmt: skip


def made(rows: list[tuple[int, int, int]], times: bool) -> Interactions:
    users, items = (IdIndex(pl.Series([f"{word}{n}" for n in range(size)])) for word, size in (("u", 7), ("i", 9)))
    user, item, time = np.array(rows, np.int64).T
    return Interactions(users, items, user, item, None, time if times else None)


@given(INTERACTIONS, st.sampled_from(["leave-one-out", "ratio", "time"]), st.floats(0.01, 0.99), st.booleans())
@settings(max_examples=200, deadline=None)
def test_nothing_that_is_held_out_trains(rows: list[tuple[int, int, int]], how: str, share: float, times: bool) -> None:
    options = SplitOptions(split=how) if how == "leave-one-out" else SplitOptions(split=how, test_share=share)
    data = made(rows, times or how == "time")
    if how == "time" and len({time for *_, time in rows}) == 1:
        return
    split = hold_out(data, options)
    train, held = raw(split, split.train), raw(split, split.held_out)
    assert sorted(train + held) == sorted(raw(split, data))
    time_of = {pair: time for pair, (*_, time) in zip(raw(split, data), rows, strict=True)}
    users = {user for user, _ in held}
    if how == "time":
        assert max(time_of[pair] for pair in train) < min(time_of[pair] for pair in held)
    else:
        assert users <= {user for user, _ in train}
        for user in users if times else ():
            before, after = ([time_of[pair] for pair in each if pair[0] == user] for each in (train, held))
            assert max(before) <= min(after)
    for user in {user for user, _ in train + held} if how == "ratio" else ():
        have, of = (sum(pair[0] == user for pair in each) for each in (held, train + held))
        assert have == min(int(share * of + 0.5), of - 1)


@given(INTERACTIONS, st.randoms(use_true_random=False), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_ratio_without_times_depends_on_raw_ids_and_seed_alone(rows: Any, random: Any, seed: int) -> None:
    options = SplitOptions(split="ratio", test_share=0.4, seed=seed)
    one = hold_out(made(rows, False), options)
    random.shuffle(rows)
    data = made(rows, False)
    turned = Interactions(  # every index is another one
        IdIndex(data.users.ids.reverse()), IdIndex(data.items.ids.reverse()), 6 - data.user_index, 8 - data.item_index
    )
    other = hold_out(turned, options)
    assert sorted(raw(one, one.held_out)) == sorted(raw(other, other.held_out))


@given(INTERACTIONS, st.floats(0.05, 0.95))
@settings(max_examples=100, deadline=None)
def test_files_split_by_time_leave_out_what_the_training_does_not_know(
    rows: list[tuple[int, int, int]], share: float
) -> None:
    rows = rows + [(user, item, time + 2) for user, item, time in rows[::3]]  # repeats
    table = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")
    try:
        split = split_frame(table, SplitOptions(split="time", test_share=share))
    except InputError:
        return
    cut = cut_time(table["timestamp"].to_numpy(), share)
    early = {(str(user), str(item)) for user, item, time in rows if time < cut}
    late = {(str(user), str(item)) for user, item, time in rows if time >= cut}
    assert set(raw(split, split.train)) == early
    known = [{pair[side] for pair in early} for side in (0, 1)]
    assert set(raw(split, split.held_out)) == {
        pair for pair in late - early if pair[0] in known[0] and pair[1] in known[1]
    }
    assert split.train.timestamp is not None
    assert split.held_out.timestamp is not None
    assert split.train.timestamp.max() < cut <= split.held_out.timestamp.min()
