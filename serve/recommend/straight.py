"""Reads the two most frequent bodies of JSON straight into requests: scores of pairs, and the best items for a user.

msgspec checks types and lengths while it reads, without a document of dictionaries in between, in a third of the time.
Any other body, and any that is wrong, is read as a document (`formats/json_format.py`), which knows what to say of it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from serve.recommend.asks import MAX_ID_CHARACTERS
from serve.recommend.parse import Parsed, RankRequest, ScoreRequest

# Reading a larger body is left to a thread.
MAX_BYTES = 65_536

_Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class _Pair(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    user_id: _Id
    item_id: _Id


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    pairs: Annotated[list[_Pair], Meta(min_length=1)] | UnsetType = UNSET
    user_id: _Id | UnsetType = UNSET
    k: Annotated[int, Meta(ge=1, le=2**63 - 1)] | UnsetType = UNSET
    model: str | UnsetType = UNSET


_DECODER = msgspec.json.Decoder(_Body)


def read_straight(body: bytes) -> Parsed | None:
    """The request of a body, None if the body has to be read as a document."""
    if len(body) > MAX_BYTES:
        return None
    try:
        read = _DECODER.decode(body)
    except msgspec.MsgspecError:
        return None
    fields = (read.k is not UNSET) + (read.model is not UNSET)
    request: RankRequest | ScoreRequest
    if read.pairs is UNSET:
        if read.user_id is UNSET:
            return None
        fields += 1
        request = RankRequest(read.user_id, k=None if read.k is UNSET else read.k)
    else:
        if read.user_id is not UNSET or read.k is not UNSET:
            return None
        fields += 1 + 2 * len(read.pairs)
        request = ScoreRequest([pair.user_id for pair in read.pairs], [pair.item_id for pair in read.pairs])
    # A field that comes twice is read once, so there are more colons. Colons in a text end here, too.
    if body.count(b":") != fields:
        return None
    return Parsed(request, None if read.model is UNSET else read.model)
