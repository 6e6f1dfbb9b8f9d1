"""check, template, invoke, logs, models and packages on the command line, and the exit codes of the program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.aws.session import Aws
from deploy.commands.cli import cli
from deploy.errors import UserError
from tests.deploy.support import IMAGE, SINGLE, model_archive, written

PROGRAM = Path(sys.executable).parent / "ncf-deploy"
MANY = SINGLE.replace("model: s3://my-bucket/models/food.tar.gz", "models: s3://my-bucket/many/")
FUNCTION = f"name: food\nregion: eu-central-1\nlambda: {{image: {IMAGE}}}\n"


def test_the_users_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    path = written(tmp_path, SINGLE.replace("count:", "cont:"))
    ended = subprocess.run([PROGRAM, "check", "-f", path], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "ncf-deploy: endpoint.yaml:6: instances: cont is unknown; did you mean count?\n"
    assert ended.stdout == ""


def test_without_the_extra_the_remedy_is_named(tmp_path: Path) -> None:
    (tmp_path / "boto3.py").write_text("raise ModuleNotFoundError(name='boto3')")
    program = "from deploy.commands.main import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path)}
    )
    assert ended.stderr == "ncf-deploy: boto3 is not installed here: pip install ncf-triton[deploy]\n"
    assert ended.returncode == 1


def test_check_says_what_a_file_makes(tmp_path: Path) -> None:
    path = written(tmp_path, SINGLE)
    result = CliRunner().invoke(cli, ["check", "-f", str(path)])
    assert "food is well: 4 resources (IAM::Role, SageMaker::Model" in result.output


@pytest.mark.parametrize("text", [SINGLE, FUNCTION])
def test_the_policy_is_printed_by_itself(text: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["template", "-f", str(written(tmp_path, text)), "--policy"])
    assert json.loads(result.stdout)["Version"] == "2012-10-17"


def test_models_of_an_endpoint_with_many(aws: Aws, tmp_path: Path) -> None:
    file, food = str(written(tmp_path, MANY)), str(model_archive(tmp_path / "food.tar.gz"))
    added = CliRunner().invoke(cli, ["models", "add", "-f", file, food, "--name", "food-v2.tar.gz"])
    assert f"ncf-deploy invoke -f {file} --target-model food-v2.tar.gz" in added.stdout
    assert "food-v2.tar.gz" in CliRunner().invoke(cli, ["models", "list", "-f", file]).stdout
    refused = CliRunner().invoke(cli, ["models", "remove", "-f", file, "food-v2.tar.gz"])
    assert "add --yes" in str(refused.exception)
    CliRunner().invoke(cli, ["models", "remove", "-f", file, "food-v2.tar.gz", "--yes"])
    assert CliRunner().invoke(cli, ["models", "list", "-f", file]).stdout == ""


@pytest.mark.parametrize(
    ("arguments", "text", "expected"),
    [
        (["models", "list"], SINGLE, "food has not one prefix of models but none"),
        (["packages", "list"], SINGLE, "food has not one package_group but none"),
        (["logs", "--since", "soon"], SINGLE, "--since is soon; it is a number with s, m, h or d"),
        (["logs"], SINGLE, "there is no log group /aws/sagemaker/Endpoints/food"),
        (["invoke", "--data", "{}"], FUNCTION, "food is a Lambda function, and this command is for endpoints"),
        (["invoke", "--data", "@none.json"], SINGLE, "none.json cannot be read"),
        (["status"], SINGLE, "there is no stack ncf-food in eu-central-1; make it with `ncf-deploy apply`"),
    ],
)
def test_a_command_that_does_not_fit_says_why(
    arguments: list[str], text: str, expected: str, aws: Aws, tmp_path: Path
) -> None:
    result = CliRunner().invoke(cli, [*arguments, "-f", str(written(tmp_path, text))])
    assert isinstance(result.exception, UserError)
    assert expected in str(result.exception)


def test_a_serverless_endpoint_takes_smaller_bodies(no_machine: None, tmp_path: Path) -> None:
    text = SINGLE.replace(
        "instances: {type: ml.c6i.xlarge, count: 2}", "serverless: {memory_mb: 2048, max_concurrency: 5}"
    )
    (tmp_path / "body").write_bytes(bytes((4 << 20) + 1))
    asked = ["invoke", "-f", str(written(tmp_path, text)), "--data", f"@{tmp_path / 'body'}"]
    assert "a serverless endpoint takes 4 MB" in str(CliRunner().invoke(cli, asked).exception)
