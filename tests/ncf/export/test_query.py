"""The exported query module against the plain model, condition by condition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ncf.export.modules import TopK
from ncf.export.query import Query
from ncf.models.fold_in import fit_fold_in
from ncf.models.neural import NCF, build_model
from ncf.models.seen import SeenItems
from ncf.training.config import MODEL_NAMES

NUM_USERS, NUM_ITEMS, K = 9, 30, 12
SEEN = {0: [3, 1, 29], 4: [7], 8: list(range(25))}
CODES = torch.tensor([[item % 4 - 1 for item in range(NUM_ITEMS)], [item // 10 for item in range(NUM_ITEMS)]])
# Two columns in which an item may have several codes, with four values and one: by value, the items without any first.
SEVERAL = [
    [{29}, {2, 3, 5, 7}, set(range(0, 28, 2)), {28}, set(range(29))],
    [set(range(25)), {25, 26, 27, 28, 29}],
]
FIRST, SECOND = Query.WHERE + 2, Query.WHERE + 3


def made(name: str) -> tuple[NCF, torch.jit.ScriptModule]:
    torch.manual_seed(1)
    model = build_model(name, NUM_USERS, NUM_ITEMS, 8).eval()
    catalogue = model.catalogue()
    several = [as_csr(items) for items in SEVERAL]
    query = Query(catalogue, fit_fold_in(catalogue, seen()), seen(), NUM_USERS, K, CODES, several).eval()
    return model, torch.jit.script(query)


def as_csr(rows: list[set[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    indptr = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return indptr, torch.tensor([item for row in rows for item in sorted(row)])


def seen() -> SeenItems:
    pairs = torch.tensor([(user, item) for user, items in SEEN.items() for item in items])
    return SeenItems.of(pairs[:, 0], pairs[:, 1], NUM_USERS, NUM_ITEMS)


@pytest.fixture(scope="module", params=MODEL_NAMES)
def both(request: pytest.FixtureRequest) -> tuple[NCF, torch.jit.ScriptModule]:
    return made(request.param)


@pytest.fixture(scope="module")
def query() -> torch.jit.ScriptModule:
    return made("neumf")[1]


def ask(query: torch.jit.ScriptModule, *rows: tuple[int, int]) -> tuple[list[int], torch.Tensor]:
    """The items of one query, without the empty places, and their scores."""
    with torch.inference_mode():
        item_index, score = query(torch.tensor([rows]))
    filled = item_index[0] >= 0
    return item_index[0][filled].tolist(), score[0][filled]


def expected(model: NCF, user: int, allowed: set[int]) -> tuple[list[int], torch.Tensor]:
    with torch.inference_mode():
        score = model(torch.tensor([user]), torch.arange(NUM_ITEMS))
    best = sorted(allowed, key=lambda item: -float(score[item]))[:K]
    return best, score[best]


EVERY = set(range(NUM_ITEMS))
USER = (Query.USER, 4)


@pytest.mark.parametrize(
    ("rows", "allowed"),
    [
        ([], EVERY - {7}),
        ([(Query.INCLUDE_SEEN, 0)], EVERY),
        ([(Query.EXCLUDE, 3), (Query.EXCLUDE, 3), (Query.EXCLUDE, 11)], EVERY - {7, 3, 11}),
        ([(Query.EXCLUDE, item) for item in range(28)], {28, 29}),
        ([(Query.ALLOW, 5), (Query.ALLOW, 7), (Query.ALLOW, 9)], {5, 9}),  # 7 was seen
        ([(Query.ALLOW, 5), (Query.EXCLUDE, 5), (Query.ALLOW, 9)], {9}),
        ([(Query.ALLOW, -1)], set()),
        ([(Query.WHERE, 2)], {item for item in EVERY if item % 4 == 3} - {7}),
        ([(Query.WHERE, -1)], {item for item in EVERY if item % 4 == 0}),
        ([(Query.WHERE, -2)], set()),
        ([(Query.WHERE, 0), (Query.WHERE + 1, 2)], {21, 25, 29}),
        ([(Query.WHERE + 1, 0), (Query.ALLOW, 1), (Query.ALLOW, 15)], {1}),
        ([(FIRST, 0)], {2, 3, 5}),  # 7 was seen
        ([(FIRST, 1)], set(range(0, 28, 2))),
        ([(FIRST, -1)], {29}),
        ([(FIRST, 3), (SECOND, 0), (Query.WHERE, 0)], {25}),
        ([(FIRST, 2), (SECOND, -1)], set()),
        *[([(FIRST, nobodys)], set[int]()) for nobodys in (-2, 4, 2**63 - 1, -(2**63))],
        ([(SECOND, 1)], set()),  # the first column's value has no number in the second
        ([(SECOND + 1, 0)], EVERY - {7}),  # no column at all
        ([(0, 3), (99, 5), (-1, 4), (2**62, 1)], EVERY - {7}),  # no kinds at all
    ],
)
def test_conditions_on_a_users_catalogue(
    both: tuple[NCF, torch.jit.ScriptModule], rows: list[tuple[int, int]], allowed: set[int]
) -> None:
    model, query = both
    items, score = ask(query, USER, *rows)
    wanted, wanted_score = expected(model, 4, allowed)
    assert items == wanted
    torch.testing.assert_close(score, wanted_score, rtol=1e-5, atol=1e-5)


def test_an_unknown_user_gets_the_most_popular(query: torch.jit.ScriptModule) -> None:
    for rows in (
        [(0, 0)],
        [(Query.USER, NUM_USERS)],
        [(Query.USER, -(2**63))],
        [(Query.HISTORY, 99)],
        [(Query.SIMILAR, -1)],
    ):
        items, score = ask(query, *rows)
        assert items[0] in (1, 3, 7)  # two of the three users have it
        assert score.tolist() == sorted(score.tolist(), reverse=True)
        assert score[0] == 2


def test_a_history_is_left_out_unless_wanted(both: tuple[NCF, torch.jit.ScriptModule]) -> None:
    history = [(Query.HISTORY, 5), (Query.HISTORY, 6), (Query.HISTORY, 5)]
    items, _ = ask(both[1], *history)
    assert len(items) == K
    assert not {5, 6} & set(items)
    every = [ask(both[1], *history, (Query.INCLUDE_SEEN, 0), (Query.ALLOW, item))[0] for item in (5, 6)]
    assert every == [[5], [6]]


def test_similar_items_are_by_cosine_and_never_the_item_itself(both: tuple[NCF, torch.jit.ScriptModule]) -> None:
    model, query = both
    rows = torch.cat([part.items() for part in model.catalogue().parts], dim=1)
    rows = rows / rows.norm(dim=1, keepdim=True)
    cosine = rows @ rows[5]
    items, score = ask(query, (Query.SIMILAR, 5))
    assert items == sorted(EVERY - {5}, key=lambda item: -float(cosine[item]))[:K]
    torch.testing.assert_close(score, cosine[items], rtol=1e-5, atol=1e-5)


def test_queries_of_a_batch_do_not_see_each_other(query: torch.jit.ScriptModule) -> None:
    kinds = [
        [USER, (Query.EXCLUDE, 1)],
        [(Query.HISTORY, 2), (Query.HISTORY, 3)],
        [(Query.SIMILAR, 4), (FIRST, 1)],
    ]
    alone = [ask(query, *rows) for rows in kinds]
    with torch.inference_mode():
        item_index, score = query(torch.tensor([kinds[row % 3] for row in range(40)]))
    for row in range(40):
        filled = item_index[row] >= 0
        assert item_index[row][filled].tolist() == alone[row % 3][0]
        torch.testing.assert_close(score[row][filled], alone[row % 3][1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("users_at_once", [1, 5, 100])
@pytest.mark.core
def test_lone_users_get_what_the_topk_model_gives_bit_for_bit(name: str, length: int, users_at_once: int) -> None:
    """Whether all are known, some or none; and the same but for rounding with a condition that changes nothing."""
    model, query = made(name)
    topk = torch.jit.script(TopK(model.catalogue(), seen(), NUM_USERS, K).eval())
    for module in (query, topk):
        module.rows_at_once = users_at_once
    outside = [-1, NUM_USERS, 2**63 - 1, -(2**63)]
    for users in ([4], [-1], list(range(NUM_USERS)), [8, *outside, 0], outside):
        asked = torch.zeros((len(users), length, 2), dtype=torch.int64)
        asked[:, 0, 0], asked[:, 0, 1] = Query.USER, torch.tensor(users)
        no_condition = torch.tensor([[Query.EXCLUDE, -1]]).expand(len(users), 1, 2)
        with torch.inference_mode():
            expected = topk(torch.tensor(users).unsqueeze(1))
            assert all(map(torch.equal, query(asked), expected))
            item_index, score = query(torch.cat([asked, no_condition], dim=1))
        assert torch.equal(item_index >= 0, expected[0] >= 0)
        torch.testing.assert_close(score, expected[1], rtol=1e-5, atol=1e-5)


def test_a_batch_in_which_one_query_is_no_lone_user(query: torch.jit.ScriptModule) -> None:
    for other in ((Query.SIMILAR, 4), (Query.HISTORY, 2), (0, 0), (2**62, 1)):
        with torch.inference_mode():
            item_index, score = query(torch.tensor([[USER], [other]]))
        for row, rows in enumerate(([USER], [other])):
            items, wanted = ask(query, *rows)
            assert item_index[row][item_index[row] >= 0].tolist() == items
            torch.testing.assert_close(score[row][item_index[row] >= 0], wanted, rtol=1e-5, atol=1e-5)


INT64 = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 40)
ROWS = st.lists(st.tuples(INT64, INT64), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_any_int64_has_an_answer(query: torch.jit.ScriptModule, rows: list[tuple[int, int]]) -> None:
    items, score = ask(query, *rows)
    assert len(set(items)) == len(items)
    assert set(items) <= EVERY
    assert torch.isfinite(score).all()


def test_a_model_without_columns_has_no_values() -> None:
    catalogue = build_model("gmf", NUM_USERS, NUM_ITEMS, 8).eval().catalogue()
    module = Query(catalogue, fit_fold_in(catalogue, seen()), seen(), NUM_USERS, K, CODES[:0]).eval()
    for kind in (Query.WHERE, FIRST):
        assert len(ask(torch.jit.script(module), USER, (kind, 0))[0]) == K


def test_there_is_no_device_in_it(query: torch.jit.ScriptModule, tmp_path: Path) -> None:
    torch.jit.save(query, str(tmp_path / "model.pt"))
    graph = str(torch.jit.load(str(tmp_path / "model.pt")).inlined_graph)
    assert 'value="cpu"' not in graph
    assert 'value="cuda' not in graph
