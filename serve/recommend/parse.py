"""Makes one of the records below from a request's JSON document, and checks it on the way; no I/O."""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Mapping
from typing import Any, NamedTuple

from serve.errors import BadRequest, show
from serve.recommend.asks import ASKS, DEFAULT_K, FIELDS, MAX_ID_CHARACTERS, MAX_K, Ask, RawId, raw_id

EXAMPLES = '{"user_id": "u17", "k": 10} or {"pairs": [{"user_id": "u17", "item_id": "pizza-03"}]}'


class RankRequest(NamedTuple):
    """The k best items of the whole catalogue. Exactly one of `user_id`, `history` and `item_id` is set: the items are
    for a user, for somebody with this history, or like an item."""

    user_id: RawId | None = None
    history: tuple[RawId, ...] | None = None
    item_id: RawId | None = None
    k: int | None = None
    exclude_seen: bool = True
    exclude: tuple[RawId, ...] = ()
    allow: tuple[RawId, ...] | None = None
    where: tuple[tuple[str, Any], ...] = ()
    columns: tuple[str, ...] = ()  # the field `with`


class CandidatesRequest(NamedTuple):
    """The given items in the order of a user's preference, the best first."""

    user_id: RawId
    candidates: tuple[RawId, ...]
    k: int | None = None
    columns: tuple[str, ...] = ()


class ScoreRequest(NamedTuple):
    """The scores of (user, item) pairs, in order. Users and items are lists of raw ids or arrays of indices."""

    user: list[RawId] | array[int]
    item: list[RawId] | array[int]


Request = RankRequest | CandidatesRequest | ScoreRequest


class Parsed(NamedTuple):
    """A request that was read without a document, and the model that the body names."""

    request: Request
    model: str | None = None


def work(request: Request) -> int:
    """What a request costs a worker: the number of ids to look up and of values to return, about 0.5 µs each."""
    if isinstance(request, ScoreRequest):
        return 2 * len(request.user)
    if isinstance(request, CandidatesRequest):
        return len(request.candidates) * (2 + len(request.columns))
    ids = len(request.exclude) + len(request.allow or ()) + len(request.history or ())
    k = min(request.k or DEFAULT_K, MAX_K)
    return 1 + ids + k * (1 + len(request.columns))


_ASK_OF = {ask.lead: ask for ask in ASKS}
# The kind of a request is decided by the first of these fields that it has; the others may go with it.
_LEADING = sorted(_ASK_OF, key=("pairs", "candidates", "history", "user_id", "item_id").index)
_KNOWN = {id(ask): frozenset((*ask.required, *ask.optional)) for ask in ASKS}


def parse_request(document: Any, max_items: int) -> Request:
    """A request from its JSON document, from which `model` has been removed.

    `max_items` is the most ids of a list. Raises BadRequest with the field, its value and what is expected.
    """
    if not isinstance(document, dict):
        raise BadRequest(f"the body is a JSON {_kind(document)}; send an object such as {EXAMPLES}")
    leading = next((name for name in _LEADING if name in document), None)
    if leading is None:
        _only(document, tuple(FIELDS))
        raise BadRequest(f"the body asks for nothing; send {EXAMPLES}")
    if leading == "pairs":
        _only(document, ("pairs",))
        return _pairs(document["pairs"])
    if leading == "user_id" and type(document["user_id"]) is list and type(document.get("item_id")) is list:
        _only(document, ("user_id", "item_id"))
        return _pairs(document)
    ask = _ASK_OF[leading]
    if not document.keys() <= _KNOWN[id(ask)]:
        _refuse(document, ask)
    if not all(name in document for name in ask.required):
        raise BadRequest('candidates needs a user_id; for a new user send {"history": […], "allow": […]}')
    read = {name: FIELDS[name].read(value, name, max_items) for name, value in document.items()}
    if "with" in read:
        read["columns"] = read.pop("with")
    return CandidatesRequest(**read) if leading == "candidates" else RankRequest(**read)


def _refuse(document: Mapping[str, Any], ask: Ask) -> None:
    """Raises BadRequest for the first field that does not belong to this kind of request."""
    for name in document:
        if name in _KNOWN[id(ask)]:
            continue
        if name in FIELDS:
            lead = " and ".join(ask.required)
            raise BadRequest(f"{name} does not go with {lead}, which takes {', '.join(ask.optional)}")
        _only({name: None}, (*ask.required, *ask.optional, "model"))


def _pairs(value: Any) -> ScoreRequest:
    if isinstance(value, dict):
        return _columns(value)
    if not isinstance(value, list) or not value:
        raise BadRequest('pairs must be a list such as [{"user_id": "u17", "item_id": "pizza-03"}]')
    users, items = [], []
    for row, pair in enumerate(value):
        try:
            user_id, item_id = pair if type(pair) is list else (pair["user_id"], pair["item_id"])
            extra = len(pair) > 2
        except (KeyError, TypeError, ValueError):
            raise BadRequest(f"pairs[{row}] is {show(pair)}; it needs user_id and item_id") from None
        if extra:
            _only(pair, ("user_id", "item_id"), f"pairs[{row}].")
        users.append(user_id)
        items.append(item_id)
    return ScoreRequest(_checked(users, "pairs[{}].user_id"), _checked(items, "pairs[{}].item_id"))


def _columns(value: Mapping[str, Any]) -> ScoreRequest:
    """Pairs from two lists of one length, `user_id` and `item_id`."""
    _only(value, ("user_id", "item_id"), "pairs.")
    users, items = value.get("user_id"), value.get("item_id")
    if type(users) is not list or type(items) is not list or not users or len(users) != len(items):
        raise BadRequest(
            'pairs as columns needs two lists of one length: {"user_id": ["u17"], "item_id": ["pizza-03"]}'
        )
    return ScoreRequest(_checked(users, "pairs.user_id[{}]"), _checked(items, "pairs.item_id[{}]"))


def _checked(ids: list[Any], place: str) -> list[RawId]:
    """The ids, each checked; the slow loop runs only if they are neither all whole numbers nor all texts."""
    kinds = set(map(type, ids))
    if not (
        kinds == {int}
        or (kinds == {str} and len(min(ids, key=len)) > 0 and len(max(ids, key=len)) <= MAX_ID_CHARACTERS)
    ):
        return [raw_id(each, place.format(row)) for row, each in enumerate(ids)]
    return ids


def _only(document: Mapping[str, Any], known: tuple[str, ...], where: str = "") -> None:
    for name in document:
        if name not in known:
            near = difflib.get_close_matches(name[:40], known, 1)  # the search takes longer for longer names
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
            raise BadRequest(f"field {show(where + name)} is unknown; {hint}")


def _kind(value: Any) -> str:
    return {list: "list", str: "text", bool: "truth value", type(None): "null"}.get(type(value), "number")
