"""Presets by name and from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ncf.errors import InputError
from ncf.training.presets import PRESETS, configure, preset_values, read_preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_a_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "preset.json"
    path.write_text(json.dumps(preset_values(PRESETS[name])))
    assert read_preset(path) == PRESETS[name] == configure(str(path), {})


def test_settings_of_the_user_override_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "preset.json"
    path.write_text('{"l2": 0.5, "epochs": 3, "dropout": 0}')
    config = configure(str(path), {"epochs": 4, "seed": 2, "held_out": 3})
    assert (config.model, config.l2, config.epochs, config.seed, config.split.held_out) == ("gmf", 0.5, 4, 2, 3)
    assert isinstance(config.dropout, float)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "preset .*p.json is not JSON"),
        (b"num_factors: 8", "preset .*p.json is not JSON .*; `ncf tune` writes such a file"),
        (b"\xff\xfe{}", "preset .*p.json is not JSON"),
        (b"[1]", "preset .*p.json is no JSON object; it must be one of settings"),
        (b'{"factors": 8}', "preset .*p.json: setting 'factors' is unknown; did you mean 'num_factors'"),
        (b'{"zzz": 8}', "preset .*p.json: setting 'zzz' is unknown; there are model, num_factors"),
        (b'{"seed": 8}', "preset .*p.json: setting 'seed' is unknown"),
        (b'{"num_factors": "8"}', 'preset .*p.json: num_factors is "8"; it must be a whole number'),
        (b'{"num_factors": 8.5}', r"preset .*p.json: num_factors is 8\.5; it must be a whole number"),
        (b'{"num_factors": true}', "preset .*p.json: num_factors is true; it must be a whole number"),
        (b'{"l2": null}', "preset .*p.json: l2 is null; it must be a number"),
        (b'{"negatives": 4}', "preset .*p.json: negatives is 4; it must be text"),
        (b'{"pretrain": 1}', "preset .*p.json: pretrain is 1; it must be true or false"),
        (b'{"num_factors": 0}', "preset .*p.json: num_factors is 0; it must be at least 1"),
        (b'{"l2": NaN}', "preset .*p.json: l2 is nan; it must be at least 0 and finite"),
        (b'{"model": "svd"}', "preset .*p.json: model is 'svd'; choose gmf, mlp, neumf"),
    ],
)
def test_a_file_that_is_no_preset_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        configure(str(path), {})


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("none.json", "cannot read the preset none.json: No such file or directory; give a file, or default, ml-1m"),
        (
            "best",
            "no preset is called 'best'; there are default, .*, and preset files, whose names end in .json",
        ),
    ],
)
def test_a_preset_that_does_not_exist_is_refused(preset: str, message: str) -> None:
    given: dict[str, Any] = {}
    with pytest.raises(InputError, match=message):
        configure(preset, given)
