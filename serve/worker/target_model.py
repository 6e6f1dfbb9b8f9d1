"""Chooses the model of a request."""

from __future__ import annotations

from collections.abc import Mapping

from serve.errors import BadRequest, UnknownModel, show
from serve.models.served import Served
from serve.worker.sagemaker_headers import CUSTOM_ATTRIBUTES, TARGET_MODEL


def target_model(
    body_model: object, headers: Mapping[bytes, bytes], default_model_name: str | None, served: Served
) -> str:
    """The body's `model`, else `model=` in Custom-Attributes, else Target-Model, else the default, else the only one.

    With a single recommender Target-Model changes nothing: a single-model container ignores it (contract C38).
    Raises UnknownModel for a name that is not served, BadRequest if nothing names one of several models.
    """
    choices = served.choices
    if body_model is not None:
        if not isinstance(body_model, str):
            raise BadRequest(f"model is {show(body_model)}; it must be a name: {', '.join(choices)}")
        return _known(body_model, "model", served)
    if CUSTOM_ATTRIBUTES in headers and (named := _from_attributes(headers[CUSTOM_ATTRIBUTES])) is not None:
        return _known(named, "model in X-Amzn-SageMaker-Custom-Attributes", served)
    if len(choices) > 1 and (header := headers.get(TARGET_MODEL)):
        named = header.decode("latin-1")
        # On a multi-model endpoint the header names an archive: ncf_food_model.model.tar.gz means ncf_food_model.
        short = named.removesuffix(".tar.gz").removesuffix(".model")
        return _known(short if named not in served.models else named, "X-Amzn-SageMaker-Target-Model", served)
    default = default_model_name or served.default
    if default is not None:
        return default
    if len(choices) == 1:
        return choices[0]
    raise BadRequest(f'several models are served, so the request must name one as "model": {", ".join(choices)}')


def _from_attributes(text: bytes) -> str | None:
    """The value of `model=` in a list such as `trace=1,model=ncf_food_model`."""
    for part in text.decode("latin-1").replace(";", ",").split(","):
        key, _, value = part.strip().partition("=")
        if key == "model":
            return value.strip()
    return None


def _known(name: str, where: str, served: Served) -> str:
    if name not in served.models:
        choices = served.choices
        raise UnknownModel(f"{where} is {show(name)}, which is not served here; there are {', '.join(choices)}")
    return name
