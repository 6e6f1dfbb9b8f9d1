"""config.pbtxt as Triton gets to see it."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2


def for_all_versions(text: str) -> tuple[str, int]:
    """The configuration with every version directory served, and its max_batch_size (1 where it does not batch).

    Which versions there are is decided by what `serve` lays out, so that an old one can answer until a new one is
    ready. Raises ValueError if the text is no configuration.
    """
    try:
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(f"config.pbtxt cannot be read: {error}") from error
    config.version_policy.all.SetInParent()
    return text_format.MessageToString(config), max(1, config.max_batch_size)
