"""How the values of environment variables are read: functions from text, each with one meaning.

They raise ValueError where the text cannot be read; `Refused` where the text says what it may not say.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Sequence

TRUE, FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no")
# Triton takes any beginning of a flag for the flag, and the last one of a kind wins. These are the supervisor's: they
# say where Triton listens, what it may be asked and by whom, which files it reads, and how it is stopped.
RESERVED = (
    "allow-http", "http-address", "http-port", "reuse-http-port", "http-restricted-api",
    "allow-grpc", "grpc-address", "grpc-port", "reuse-grpc-port", "grpc-restricted-protocol", "grpc-use-ssl",
    "grpc-use-ssl-mutual",
    "allow-metrics", "metrics-address", "metrics-port",
    "allow-sagemaker", "sagemaker-port", "sagemaker-safe-port-range", "allow-vertex-ai", "vertex-ai-port",
    "model-repository", "model-store", "model-control-mode", "exit-timeout-secs",
)  # fmt: skip
# What serve tells Triton anyway; public examples pass some of these.
HARMLESS = ("--allow-http=true", "--model-control-mode=explicit", "--allow-sagemaker=false", "--allow-vertex-ai=false")
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
    """A value with an explanation of its own, which follows the variable's name."""


def whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


def number(above: float, high: float) -> Callable[[str], float]:
    """A number of (above, high]."""

    def parse(text: str) -> float:
        value = float(text)
        if math.isnan(value) or not above < value <= high:
            raise ValueError
        return value

    return parse


def port_range(text: str) -> tuple[int, int]:
    low, high = (whole_number(1, 65535)(part) for part in text.split("-"))
    if low > high:
        raise ValueError
    return low, high


def truth(text: str) -> bool:
    """True for 1, on, yes and true, false for their opposites, in any case."""
    if text.lower() not in TRUE + FALSE:
        raise ValueError
    return text.lower() in TRUE


def one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return parse


def strategy(text: str) -> str:
    """SINGLE_RECORD or MULTI_RECORD, from that or from the SDK's SingleRecord and MultiRecord, in any case."""
    return one_of("SINGLE_RECORD", "MULTI_RECORD")(re.sub("_?RECORD$", "_RECORD", text.upper()))


def version(text: str) -> str:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", text):
        raise ValueError
    return text


def tritons_truth(text: str) -> str:
    """A truth word of Triton's command line, as it is."""
    if text.lower() not in ("true", "1", "on", "false", "0", "off"):
        raise ValueError
    return text


def log_flag(text: str) -> tuple[str, ...]:
    """Whether to log, as Triton writes it, and the further arguments that follow in the same value (`log_level`)."""
    first, *further = text.split()
    return "true" if truth(first) else "false", *arguments(further)


def log_level(text: str) -> tuple[str, ...]:
    """A level as a number, and the further arguments that follow in the same value.

    The stock container puts these values on Triton's command line unquoted, and public examples make use of that:
    `false --load-model=text_encoder --load-model=vae`.
    """
    first, *further = text.split()
    level = whole_number(0, 1000)(first) if first.isdecimal() else int(truth(first))
    return str(level), *arguments(further)


def shell_words(text: str) -> tuple[str, ...]:
    """Arguments for Triton, quoted as in a shell."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Refused(f"cannot be split into words: {error}".lower()) from error
    return arguments(words)


def arguments(words: Sequence[str]) -> tuple[str, ...]:
    """Arguments for Triton that leave the supervisor's alone. Raises Refused."""
    for position, word in enumerate(words):
        if "shm-region-prefix-name" in word:
            raise Refused("has shm-region-prefix-name, which serve sets itself")
        flag = word.removeprefix("--").partition("=")[0]
        if not word.startswith("--"):
            # Without a flag before it, and one that has no value yet, Triton would stop and print its usage.
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
