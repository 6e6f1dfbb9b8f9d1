"""Folders of `ncf prepare`: mapped as they are; nothing damaged or foreign is taken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ncf.data.load import load_split
from ncf.data.prepare import prepare
from ncf.data.prepared import MANIFEST
from ncf.data.splits import SplitOptions
from ncf.errors import InputError
from ncf.models.seen import SeenItems
from tests.ncf.data.test_prepare import table, write


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    prepare([write(table(), tmp_path / "data.parquet")], tmp_path / "prepared", SplitOptions(held_out=2))
    return tmp_path / "prepared"


def test_the_arrays_are_maps_that_torch_takes_as_they_are(prepared: Path) -> None:
    split = load_split(prepared)
    train, validation = split.train, split.validation
    assert validation is not None
    arrays = [train.user_index, train.item_index, train.weight, train.indptr, split.held_out.user_index]
    for array in [*arrays, split.held_out.item_index, validation.user_index, validation.item_index]:
        assert isinstance(array, np.memmap)
    assert train.user_index.dtype == train.item_index.dtype == np.int32
    user = torch.from_numpy(train.user_index)
    assert user.data_ptr() == train.user_index.ctypes.data
    seen = SeenItems.of_interactions(train)
    again = SeenItems.of(train.user_index, train.item_index, train.num_users, train.num_items)
    assert torch.equal(seen.rank_keys, again.rank_keys)
    user += 1
    load_split(prepared)  # nothing reached the file, so its sum is right


def test_the_folder_says_what_it_is(prepared: Path) -> None:
    manifest = json.loads((prepared / MANIFEST).read_text())
    split = load_split(prepared)
    assert (manifest["num_users"], manifest["num_train"]) == (split.train.num_users, len(split.train))
    assert (manifest["held_out"], manifest["seed"], manifest["columns"]["weight"]) == (2, 0, "weight")
    assert len(manifest["fingerprint"]) == 64


def test_options_have_to_agree_with_the_folder(prepared: Path) -> None:
    assert len(load_split(prepared, SplitOptions(held_out=2)).held_out) == len(load_split(prepared).held_out)
    with pytest.raises(InputError, match="of `ncf prepare`, which has its own split: held_out = 3 cannot be applied"):
        load_split(prepared, SplitOptions(held_out=3))


@pytest.mark.parametrize(
    "name", ["train_item_index.npy", "train_indptr.npy", "users.parquet", "validation_user_index.npy"]
)
def test_a_damaged_file_is_refused(prepared: Path, name: str) -> None:
    path = prepared / name
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} is not as `ncf prepare` wrote it; prepare the data again"):
        load_split(prepared)
    path.write_bytes(content[:-3])
    with pytest.raises(InputError, match="is not as `ncf prepare` wrote it"):
        load_split(prepared)
    path.unlink()
    with pytest.raises(InputError, match=f"{name} cannot be read: No such file"):
        load_split(prepared)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not as `ncf prepare` writes it"),
        ("[]", "is not as `ncf prepare` writes it"),
        ('{"format": "else"}', "its format is 'else'"),
        (
            '{"format": "interactions prepared by ncf", "version": 9}',
            "is of version 9 of the format and this is version 2",
        ),
        ('{"format": "interactions prepared by ncf", "version": 2}', "is not as `ncf prepare` writes it"),
    ],
)
def test_a_foreign_folder_is_refused(prepared: Path, text: str, message: str) -> None:
    (prepared / MANIFEST).write_text(text)
    with pytest.raises(InputError) as caught:
        load_split(prepared)
    assert message in str(caught.value)


def test_a_manifest_that_was_changed_is_refused(prepared: Path) -> None:
    path = prepared / MANIFEST
    path.write_text(path.read_text().replace('"held_out": 2', '"held_out": 3'))
    with pytest.raises(InputError, match="it was changed"):
        load_split(prepared)
