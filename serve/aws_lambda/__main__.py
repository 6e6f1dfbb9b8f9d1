"""The `lambda` verb."""

import os
import sys


def main() -> None:
    """Answer the events of AWS Lambda until the environment ends."""
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if not address:
        sys.exit("lambda: AWS_LAMBDA_RUNTIME_API is not set; Lambda sets it, and elsewhere the verb is `serve`")
    from serve.aws_lambda.local_serve import LocalServe

    serve = LocalServe()
    from serve.aws_lambda.runtime import run  # imported here, so that Lambda's client is loaded while `serve` starts

    run(address, serve)


if __name__ == "__main__":
    main()
