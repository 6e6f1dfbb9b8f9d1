"""Read the hyper-parameters of a training job, which are text, into a checked configuration."""

from __future__ import annotations

import difflib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ncf.data.splits import SplitOptions
from ncf.errors import InputError
from ncf.export.repository import check_request
from ncf.files.reading import Columns, Reading
from ncf.job.contract import read_object
from ncf.training.config import DEFAULT_K, DEVICES, TrainConfig, seconds
from ncf.training.presets import KINDS, configure

log = logging.getLogger(__name__)

COLUMNS = {
    "user_column": "user_id",
    "item_column": "item_id",
    "weight_column": "weight",
    "timestamp_column": "timestamp",
    "event_column": "event",
}
OF_THE_JOB: dict[str, type] = {
    "preset": str,
    "model_name": str,
    "k": int,
    "device": str,
    "max_time": str,
    "processes": int,
    **dict.fromkeys(COLUMNS, str),
}
MAX_PROCESSES = 64  # on a host; no machine has more GPUs

# Names from AWS' NCF workshop: MEANT are other names of our settings; FIXED are accepted only with the value that is
# fixed here.
MEANT = {"lr": "learning_rate", "batch": "batch_size", "factor_num": "num_factors", "num_ng": "negatives",
         "columns": "names"}  # fmt: skip
FIXED = {
    "top_k": ("10", "HR and NDCG are measured at 10; how many recommendations a request can ask for is 'k'"),
    "test_num_ng": ("99", "each held-out item is ranked among 99 others, and among the whole catalogue"),
}
# Names in other programs: the error message for them says our name.
ELSEWHERE = {
    "num_epochs": "epochs", "n_epochs": "epochs", "embedding_dim": "num_factors", "embedding_size": "num_factors",
    "weight_decay": "l2", "num_negatives": "negatives", "early_stopping_patience": "patience", "random_state": "seed",
    "num_gpus": "processes", "max_run": "max_time",
}  # fmt: skip
TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class JobSettings:
    """The hyper-parameters of a job with their types; `processes` is 0 if it is not given."""

    config: TrainConfig
    model_name: str
    k: int
    device: str
    max_seconds: float
    processes: int


def hyperparameters() -> dict[str, type]:
    """Every hyper-parameter and its type: the fields of TrainConfig, its split and reading, and those of the job."""
    fields = get_type_hints(TrainConfig) | get_type_hints(SplitOptions) | get_type_hints(Reading)
    # The type of `int | None` is int: None means that the hyper-parameter is left out.
    kinds = {
        name: next((kind for kind in get_args(hint) if kind is not type(None)), hint) for name, hint in fields.items()
    }
    kinds = {name: kind for name, kind in kinds.items() if name not in ("columns", "reading", "test")}
    return kinds | {"split_seed": int} | OF_THE_JOB


def read_settings(path: Path, arguments: Sequence[str] = ()) -> JobSettings:
    """Read hyperparameters.json; arguments `--name value` override it.

    Raises InputError for an unknown name or an invalid value.
    """
    given = {**read_object(path), **parse_arguments(arguments)}
    values = typed(given)
    device = values.get("device", "auto")
    if device not in DEVICES:
        raise InputError(f"hyperparameter 'device' is '{device}'; choose {', '.join(DEVICES)}")
    processes = values.get("processes", 0)
    if "processes" in values and not 1 <= processes <= MAX_PROCESSES:
        raise InputError(f"hyperparameter 'processes' is {processes}; it must be from 1 to {MAX_PROCESSES}")
    model_name, k = values.get("model_name", "ncf_model"), values.get("k", DEFAULT_K)
    check_request(model_name, None, k)  # an error now instead of after hours of training
    columns = Columns(**{field: values[name] for name, field in COLUMNS.items() if name in values})
    of_reading = get_type_hints(Reading)
    reading = Reading(**{name: value for name, value in values.items() if name in of_reading})
    overrides = {name: value for name, value in values.items() if name not in (*OF_THE_JOB, *of_reading)}
    return JobSettings(
        configure(values.get("preset"), {"refit": True, **overrides, "columns": columns, "reading": reading}),
        model_name,
        k,
        device,
        seconds(values["max_time"]) if "max_time" in values else math.inf,
        processes,
    )


def parse_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Read `--name value`, `--name=value`, and `--name` alone, which is true. Raises InputError for other words."""
    given: dict[str, str] = {}
    waiting = ""
    for word in arguments:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            given[name] = value if equals else "true"
            waiting = "" if equals else name
        elif waiting:
            given[waiting], waiting = word, ""
        else:
            raise InputError(f"train does not understand '{word}'; its arguments are --name value for hyper-parameters")
    return given


def typed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters under our names, with values of their types. Raises InputError."""
    known = hyperparameters()
    values: dict[str, Any] = {}
    for written, raw in given.items():
        if written.startswith(("sagemaker_", "_tuning_")):  # set by the SDK, and by automatic model tuning
            continue
        text = plain(raw)
        name = written.replace("-", "_")
        if name in FIXED:
            only, reason = FIXED[name]
            if text != only:
                raise InputError(f"hyperparameter '{written}' is '{text}', and can only be {only} here: {reason}")
            continue
        name = MEANT.get(name, name)
        if name not in known:
            raise InputError(f"hyperparameter '{written}' is unknown{_hint(name, known)}")
        if name in values:
            raise InputError(f"hyperparameter '{name}' is given twice, once as '{written}'; leave one out")
        if name != written.replace("-", "_"):
            log.info("hyperparameter '%s' is '%s' here", written, name)
        if text in ("null", "None"):  # the SDK writes None so: the value is left out
            continue
        try:
            values[name] = TRUTHS[text.lower()] if known[name] is bool else known[name](text)
        except (ValueError, KeyError) as error:
            raise InputError(f"hyperparameter '{written}' is '{text}'; it must be {KINDS[known[name]]}") from error
    return values


def plain(raw: Any) -> str:
    """A value as text, without the quotes of the JSON that the SDK writes."""
    text = str(raw).strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text)).strip()
        except ValueError:
            return text[1:-1]
    return text


def _hint(name: str, known: Mapping[str, type]) -> str:
    if name == "test":
        return "; give the held-out items a channel of their own, which is called test"
    if name in ELSEWHERE:
        return f"; it is called '{ELSEWHERE[name]}' here"
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(known)}"


def as_options(config: TrainConfig) -> list[str]:
    """The options of `ncf train` for a configuration."""
    values, usual, options = config.to_dict(), configure(None, {}).to_dict(), []
    values |= values["reading"]
    for name in hyperparameters():
        value = values.get(name)
        if name in OF_THE_JOB or value == usual.get(name) or value is None:
            continue
        option = f"--{name.replace('_', '-')}" if name != "names" else "--columns"
        options += [option] if value is True else [f"{option}={value}"]
    for name, field in COLUMNS.items():
        if column := values["columns"][field]:
            options.append(f"--{name.replace('_', '-')}={column}")
    return options
