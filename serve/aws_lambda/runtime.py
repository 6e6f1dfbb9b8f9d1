"""Takes events from Lambda and sends their results, by Lambda's own client for Python (awslambdaric)."""

from __future__ import annotations

import sys
from typing import Any

from awslambdaric import bootstrap
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient
from awslambdaric.lambda_runtime_exception import FaultException

from serve.aws_lambda.events import DirectFailure
from serve.aws_lambda.local_serve import LocalServe
from serve.errors import StartError

# Lambda ends an init phase after 10 s. If the models are not loaded by then, the first event waits for the rest.
INIT_SECONDS = 9.0

_serve: LocalServe


def handler(event: Any, context: Any) -> Any:
    """The result for an event; awslambdaric finds this by its name. Raises FaultException for the caller to see."""
    try:
        return _serve.answer(event, context)
    except DirectFailure as failure:
        raise FaultException(failure.code, str(failure)) from failure


class Client(LambdaRuntimeClient):  # type: ignore[misc]
    """The client of an environment that ends with `serve`, so that Lambda starts a new one (D139)."""

    def wait_next_invocation(self) -> Any:
        if _serve.has_ended():
            sys.exit(1)
        return super().wait_next_invocation()


def run(address: str, serve: LocalServe) -> None:
    """Answer the events of the runtime API at `address` without end. Raises SystemExit when `serve` has ended."""
    global _serve
    _serve = serve
    client = Client(address)
    try:
        serve.wait_until_ready(INIT_SECONDS)
    except StartError as error:
        client.post_init_error(bootstrap.make_error(str(error), "Serve.StartError", None))
        sys.exit(1)
    bootstrap.run(f"{__name__}.handler", client)
