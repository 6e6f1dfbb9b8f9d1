"""Kinds of values that environment variables have: how a text is read, and which texts can be read."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRUE, FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no")
# Flags of tritonserver that the supervisor alone may set: where Triton listens, who may ask for what, which files it
# reads, and how it is stopped. Triton takes any beginning of a flag for the flag, and of a flag given twice the last.
RESERVED = (
    "allow-http", "http-address", "http-port", "reuse-http-port", "http-restricted-api",
    "allow-grpc", "grpc-address", "grpc-port", "reuse-grpc-port", "grpc-restricted-protocol", "grpc-use-ssl",
    "grpc-use-ssl-mutual",
    "allow-metrics", "metrics-address", "metrics-port",
    "allow-sagemaker", "sagemaker-port", "sagemaker-safe-port-range", "allow-vertex-ai", "vertex-ai-port",
    "model-repository", "model-store", "model-control-mode", "exit-timeout-secs",
)  # fmt: skip
# Flags with the values that `serve` passes anyway; public examples pass some of these.
HARMLESS = ("--allow-http=true", "--model-control-mode=explicit", "--allow-sagemaker=false", "--allow-vertex-ai=false")
# The variable that does what a reserved flag would do.
INSTEAD = {
    "allow-grpc": "SAGEMAKER_TRITON_ALLOW_GRPC",
    "grpc-port": "SAGEMAKER_TRITON_GRPC_PORT",
    "allow-metrics": "SAGEMAKER_TRITON_ALLOW_METRICS",
    "metrics-port": "SAGEMAKER_TRITON_METRICS_PORT",
    "model-repository": "SERVE_MODEL_REPOSITORY",
    "sagemaker-port": "SAGEMAKER_BIND_TO_PORT",
    "sagemaker-safe-port-range": "SAGEMAKER_SAFE_PORT_RANGE",
}


class Refused(ValueError):
    """A value that is refused for a reason of its own; the message is to follow the variable's name."""


@dataclass(frozen=True)
class Kind:
    """`parse` turns a text into a value and raises ValueError or Refused; `expected` says what it can read."""

    parse: Callable[[str], Any]
    expected: str


def whole_number(low: int, high: int) -> Kind:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return Kind(parse, f"a whole number from {low} to {high}")


def number_up_to(high: float) -> Kind:
    """A number greater than 0 and at most `high`."""

    def parse(text: str) -> float:
        value = float(text)
        if math.isnan(value) or not 0 < value <= high:
            raise ValueError
        return value

    return Kind(parse, f"a number above 0 and at most {high:g}")


def one_of(*words: str) -> Kind:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return Kind(parse, f"{', '.join(words[:-1])} or {words[-1]}")


def _port_range(text: str) -> tuple[int, int]:
    low, high = (PORT.parse(part) for part in text.split("-"))
    if low > high:
        raise ValueError
    return low, high


def _truth(text: str) -> bool:
    if text.lower() not in TRUE + FALSE:
        raise ValueError
    return text.lower() in TRUE


def _tritons_truth(text: str) -> str:
    """A truth value as tritonserver's command line takes it, unchanged."""
    if text.lower() not in ("true", "1", "on", "false", "0", "off"):
        raise ValueError
    return text


def _strategy(text: str) -> str:
    """SINGLE_RECORD or MULTI_RECORD, also from the SDK's SingleRecord and MultiRecord, in any case."""
    return str(STRATEGIES.parse(re.sub("_?RECORD$", "_RECORD", text.upper())))


def _version(text: str) -> str:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", text):
        raise ValueError
    return text


def _log_flag(text: str) -> tuple[str, ...]:
    """Triton's "true" or "false", then further arguments.

    The stock container puts the values of the log variables on Triton's command line unquoted, and public examples use
    that to pass more arguments: `false --load-model=text_encoder --load-model=vae`.
    """
    first, *further = text.split()
    return "true" if _truth(first) else "false", *_arguments(further)


def _log_level(text: str) -> tuple[str, ...]:
    """A level as a number, then further arguments, as in `_log_flag`."""
    first, *further = text.split()
    level = whole_number(0, 1000).parse(first) if first.isdecimal() else int(_truth(first))
    return str(level), *_arguments(further)


def _flags(text: str) -> tuple[str, ...]:
    """Arguments for Triton, quoted as in a shell."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Refused(f"cannot be split into words: {error}".lower()) from error
    return _arguments(words)


def _arguments(words: Sequence[str]) -> tuple[str, ...]:
    """The words, if they are flags of tritonserver that `serve` does not set itself. Raises Refused."""
    for position, word in enumerate(words):
        if "shm-region-prefix-name" in word:
            raise Refused("has shm-region-prefix-name, which serve sets itself")
        flag = word.removeprefix("--").partition("=")[0]
        if not word.startswith("--"):
            # It may be the value of a flag that has none yet; anything else makes Triton print its usage and stop.
            before = words[position - 1] if position else ""
            if not before.startswith("--") or "=" in before or word.startswith("-"):
                raise Refused(f"has '{word}' where one of Triton's flags is expected, such as --load-model=<name>")
        elif not flag:
            raise Refused("has '--' where one of Triton's flags is expected, such as --load-model=<name>")
        elif (taken := [name for name in RESERVED if name.startswith(flag)]) and word not in HARMLESS:
            name = flag if flag in taken else taken[0]
            instead = f"; set {INSTEAD[name]} instead" if name in INSTEAD else ""
            raise Refused(f"has --{name}, which serve sets itself{instead}")
    return tuple(words)


FOLDER, IP_ADDRESS = Kind(Path, "a folder"), Kind(str, "an IP address")
MODEL_NAME = Kind(str, "the name of a model in the repository")
PORT = whole_number(1, 65535)
PORT_RANGE = Kind(_port_range, "two ports such as 9000-9010")
BYTES = ITEMS = whole_number(1, 2**31)
TRUTH, TRITONS_TRUTH = Kind(_truth, "true or false"), Kind(_tritons_truth, "true or false")
TRUTH_AS_WRITTEN = Kind(str, "true or false")
STRATEGIES = one_of("SINGLE_RECORD", "MULTI_RECORD")
STRATEGY = Kind(_strategy, STRATEGIES.expected)
VERSION = Kind(_version, "a version such as 2")
LOG_FLAG = Kind(_log_flag, "true or false, and further arguments for Triton after it")
LOG_LEVEL = Kind(_log_level, "a level such as 3, or true or false, and further arguments for Triton after it")
FLAGS = Kind(_flags, "flags of tritonserver, quoted as in a shell")
