"""The command behind the `serve` verb."""

from __future__ import annotations

import logging
import os
import sys

import click

from serve.settings import SETTINGS, Settings, SettingsError
from serve.telemetry.logs import configure_logging


def _help_table() -> str:
    width = max(len(setting.name) for setting in SETTINGS)
    lines = [
        f"  {setting.name:<{width}}  {setting.help} [{setting.expected}; default: {setting.default or 'none'}]"
        for setting in SETTINGS
    ]
    return "\b\nEnvironment:\n" + "\n".join(lines)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 200},
    epilog=_help_table(),
)
def serve() -> None:
    """Serve a Triton model repository behind SageMaker's /ping and /invocations.

    \b
    Example:
      SERVE_MODEL_REPOSITORY=model_repository SERVE_BIND_ADDRESS=127.0.0.1 serve
      curl -d '{"model": "ncf_food_model", "user_id": "u17"}' http://127.0.0.1:8080/invocations
    """
    configure_logging()
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        logging.getLogger("serve").error("%s", error)
        sys.exit(error.exit_code)
    from serve.supervisor.supervisor import Supervisor  # --help and a wrong setting need not wait for gRPC

    sys.exit(Supervisor(settings).run())
