"""The `ncf` command."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys

import click

from ncf.commands.evaluate import evaluate
from ncf.commands.export import export, rollback
from ncf.commands.inspect import inspect
from ncf.commands.prepare import prepare
from ncf.commands.recommend import recommend
from ncf.commands.sample import sample
from ncf.commands.train import train
from ncf.commands.tune import tune
from ncf.commands.vectors import vectors
from ncf.errors import NO_TORCH, InputError, LostProcessError


@click.group(
    commands=[sample, inspect, prepare, train, tune, evaluate, recommend, vectors, export, rollback],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="ncf-triton")
def cli() -> None:
    """Train Neural Collaborative Filtering models and put them into a Triton model repository.

    \b
    Examples:
      ncf sample food --output food.csv
      ncf inspect --data food.csv
      ncf train --data food.csv --output runs/food
      ncf evaluate --run runs/food --data food.csv
      ncf export --run runs/food --repository model_repository --name ncf_food_model
      SERVE_MODEL_REPOSITORY=model_repository serve
    """


def _prepare(level: int) -> None:
    # OpenMP reads it when torch is loaded. Threads that spin long make a step up to 30 times slower on shared cores;
    # short spinning is 5 % slower on idle cores (docs/log.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=level)


def _as_option(error: InputError) -> str:
    """The message, with the option in place of the setting's name in Python."""
    if not error.field:
        return str(error)
    name = rf"(?<![\w./-]){re.escape(error.field)}(?![\w./-])"
    return re.sub(name, f"--{error.field.replace('_', '-')}", str(error))


def train_verb() -> None:
    """The `train` verb: SageMaker's training contract under SAGEMAKER_BASE_DIR; arguments are hyper-parameters."""
    # At SIGTERM, as at Ctrl-C, the best epoch so far is kept. Without a handler the kernel would not deliver the signal
    # to process 1 of a container.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _prepare(logging.INFO)
    from ncf.job.job import HELP, TrainingJob

    if {"-h", "--help"} & set(sys.argv[1:]):
        click.echo(HELP)
        sys.exit(0)
    sys.exit(TrainingJob.from_environment(sys.argv[1:]).run())


def main() -> None:
    """Run the command; a mistake of the user ends it with one line and exit code 2."""
    _prepare(logging.WARNING)
    try:
        cli()
    except InputError as error:
        click.echo(f"ncf: {_as_option(error)}", err=True)
        sys.exit(2)
    except LostProcessError as error:
        click.echo(f"ncf: {error}", err=True)
        sys.stdout.flush()
        os._exit(1)  # an ordinary end takes down the connection to the others (ncf/training/world.py)
    except RuntimeError as error:
        if not re.search("(allocate|out of) memory", str(error)):
            raise
        reason = str(error).splitlines()[0]
        click.echo(f"ncf: not enough memory: {reason}; lower --batch-size, --num-factors or --num-layers", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        click.echo(f"ncf: {NO_TORCH}", err=True)
        sys.exit(1)
