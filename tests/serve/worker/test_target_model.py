from __future__ import annotations

import pytest

from serve.errors import BadRequest, UnknownModel
from serve.models.served import Served
from serve.worker.sagemaker_headers import CUSTOM_ATTRIBUTES, TARGET_MODEL
from serve.worker.target_model import target_model

TWO = Served(True, ("a", "a_topk", "b", "b_topk", "plain"), {"a": 1, "b": 1})
ONE = Served(True, ("a", "a_topk"), {"a": 1})


def test_the_order_of_precedence() -> None:
    attributes = {CUSTOM_ATTRIBUTES: b"trace=1, model=b"}
    header = {TARGET_MODEL: b"b"}
    assert target_model("a", {**attributes, **header}, "b", TWO) == "a"
    assert target_model(None, {**attributes, TARGET_MODEL: b"a"}, "a", TWO) == "b"
    assert target_model(None, header, "a", TWO) == "b"
    assert target_model(None, {}, "b", TWO) == "b"
    assert target_model(None, {}, None, ONE) == "a"
    assert target_model(None, {CUSTOM_ATTRIBUTES: b"trace=1"}, None, ONE) == "a"


def test_any_model_of_the_repository_can_be_named() -> None:
    assert target_model("plain", {}, None, TWO) == "plain"
    assert target_model("a_topk", {}, None, ONE) == "a_topk"


def test_the_name_of_an_archive_means_the_model_in_it() -> None:
    assert target_model(None, {TARGET_MODEL: b"b.model.tar.gz"}, None, TWO) == "b"
    assert target_model(None, {TARGET_MODEL: b"b.tar.gz"}, None, TWO) == "b"


def test_c038_with_one_recommender_target_model_changes_nothing() -> None:
    assert target_model(None, {TARGET_MODEL: b"whatever"}, None, ONE) == "a"


def test_nothing_named_among_several_lists_them() -> None:
    with pytest.raises(BadRequest, match="a, b"):
        target_model(None, {}, None, TWO)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnknownModel, match="'c', which is not served here; there are a, b"):
        target_model("c", {}, None, TWO)
    with pytest.raises(UnknownModel, match="Custom-Attributes"):
        target_model(None, {CUSTOM_ATTRIBUTES: b"model=../../etc"}, "a", TWO)
    with pytest.raises(BadRequest, match="must be a name"):
        target_model(7, {}, None, ONE)
