"""Endpoints rehearsed on this machine: two variants, a shadow, a shift of weights, and an update that is taken back.

SageMaker takes a shadow beside one variant only, so the variants and the shadow are on an endpoint each. Data, runs and
models are those of `make demo`, made if they are not there; a second model is trained beside.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import click
from botocore.config import Config
from demo import BIN, REPOSITORY, ROOT, WORK, console, ncf, prepare, require_free, step

REGION = "eu-central-1"
IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/ncf-triton:v1"
FOLDER = WORK / "endpoint"
START_SECONDS = 300
HEAD = f"region: {REGION}\nuploads: s3://my-bucket/ncf\n"
ON = "instances: {type: ml.c6i.xlarge}"
VARIANTS = f"""\
name: ab
{HEAD}variants:
  - {{name: Champion, weight: 9, container: {{image: {IMAGE}, model: gmf.tar.gz}}, {ON}}}
  - {{name: Challenger, weight: 1, container: {{image: {IMAGE}, model: neumf.tar.gz}}, {ON}}}
"""
SHADOW = f"""\
name: food
{HEAD}container: {{image: {IMAGE}, model: gmf.tar.gz}}
{ON}
shadow: {{container: {{image: {IMAGE}, model: neumf.tar.gz}}, {ON}}}
update: {{strategy: canary, percent: 25, wait_seconds: 60, rollback: {{errors_percent: 5}}}}
"""
# An image with a mistake that no /ping shows: Python's file server has a file `ping`, and answers every POST by 501.
BROKEN = IMAGE.replace("v1", "broken")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", default=8090, show_default=True, help="Port on 127.0.0.1.")
def demo_endpoint(port: int) -> None:
    """Rehearse endpoints on this machine, call them with boto3, and show what they did."""
    require_free(port)
    make_archives()
    files = {name: FOLDER / f"{name}.yaml" for name in ("ab", "food")}
    files["ab"].write_text(VARIANTS)
    files["food"].write_text(SHADOW)
    named = [word for file in files.values() for word in ("-f", str(file))]
    command = ["ncf-deploy", "local", "--port", str(port), *named, "--image", f"ncf-triton:broken={file_server()}"]
    step(shlex.join(word.replace(f"{ROOT}/", "") for word in command))
    # A session of its own, so that Ctrl-C reaches this script only, which then ends the rehearsal.
    rehearsal = subprocess.Popen([BIN / command[0], *command[1:]], start_new_session=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        wait(rehearsal, port)
        ask_variants(port)
        ask_shadow(port)
        take_back(rehearsal, port, files["food"])
        step("the summary of the rehearsal")
    except KeyboardInterrupt:
        step("stopping")
    finally:
        if rehearsal.poll() is None:
            rehearsal.send_signal(signal.SIGINT)
        code = rehearsal.wait(90)
    sys.exit(code)


def file_server() -> str:
    folder = FOLDER / "broken"
    folder.mkdir(exist_ok=True)
    (folder / "ping").touch()
    server = shlex.join([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder)])
    return shlex.join(["sh", "-c", f"exec {server} $SAGEMAKER_BIND_TO_PORT"])


def make_archives() -> None:
    prepare("food")
    run, repository = WORK / "run_food_neumf", WORK / "repository_neumf"
    if not (run / "result.json").exists():
        ncf("train", "--data", WORK / "food.csv", "--output", run, "--model", "neumf", "--epochs", "12")
    if not any((repository / "ncf_food_model_query").glob("*/model.pt")):
        ncf("export", "--run", run, "--repository", repository, "--name", "ncf_food_model")
    FOLDER.mkdir(exist_ok=True)
    for name, folder in (("gmf", REPOSITORY), ("neumf", repository)):
        target = str(FOLDER / f"{name}.tar.gz")
        packed = [ROOT / "scripts" / "package_model.sh", "--force", "-o", target, str(folder / "ncf_food_model")]
        subprocess.run(packed, check=True, stdout=subprocess.DEVNULL)


def client(service: str, port: int) -> Any:
    """Unmodified boto3; the credentials open nothing and are not looked at."""
    return boto3.client(
        service, region_name=REGION, endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id="any",
        aws_secret_access_key="any",  # noqa: S106  opens nothing
        config=Config(retries={"total_max_attempts": 1}, read_timeout=90),
    )  # fmt: skip


def wait(rehearsal: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if rehearsal.poll() is not None:
            sys.exit(rehearsal.returncode or 1)
        try:
            found = client("sagemaker", port).list_endpoints()["Endpoints"]
        except Exception:  # nobody listens yet
            found = []
        if found and all(endpoint["EndpointStatus"] == "InService" for endpoint in found):
            return
        time.sleep(0.2)
    sys.exit(f"the endpoints were not InService within {START_SECONDS} s")


def ask(runtime: Any, name: str) -> tuple[str, str]:
    """Who answered, and the best item; no item if the answer was an error."""
    body = b'{"user_id": "u17", "k": 5}'
    try:
        answer = runtime.invoke_endpoint(EndpointName=name, Body=body, ContentType="application/json")
    except runtime.exceptions.ModelError as error:
        return "an error of status {}".format(error.response["OriginalStatusCode"]), ""
    return answer["InvokedProductionVariant"], answer["Body"].read().decode()


def ask_variants(port: int) -> None:
    runtime, sagemaker = client("sagemaker-runtime", port), client("sagemaker", port)
    step('boto3: runtime.invoke_endpoint(EndpointName=\'ab\', Body=b\'{"user_id": "u17", "k": 5}\')')
    console.print(ask(runtime, "ab")[1], soft_wrap=True)
    console.print(f"100 requests, by who answered: {dict(Counter(ask(runtime, 'ab')[0] for _ in range(100)))}")
    step("boto3: sagemaker.update_endpoint_weights_and_capacities(…): Champion 1, Challenger 1")
    weights = [{"VariantName": name, "DesiredWeight": 1} for name in ("Champion", "Challenger")]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName="ab", DesiredWeightsAndCapacities=weights)
    console.print(f"100 requests, by who answered: {dict(Counter(ask(runtime, 'ab')[0] for _ in range(100)))}")


def ask_shadow(port: int) -> None:
    runtime = client("sagemaker-runtime", port)
    step("50 requests to food, whose shadow gets a copy of each")
    console.print(f"by who answered: {dict(Counter(ask(runtime, 'food')[0] for _ in range(50)))}")


def take_back(rehearsal: subprocess.Popen[bytes], port: int, file: Path) -> None:
    """Update to a version with a mistake, and ask until its alarm has rung."""
    runtime, sagemaker = client("sagemaker-runtime", port), client("sagemaker", port)
    step(f"a new image in {file.name} is healthy, but answers nothing; kill -HUP {rehearsal.pid} updates the endpoint")
    file.write_text(SHADOW.replace(IMAGE, BROKEN, 1))
    rehearsal.send_signal(signal.SIGHUP)
    answers: Counter[str] = Counter()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        answers[ask(runtime, "food")[0]] += 1
        endpoint = sagemaker.describe_endpoint(EndpointName="food")
        if endpoint["EndpointStatus"] == "InService" and endpoint.get("FailureReason"):
            break
        time.sleep(0.02)
    console.print(f"meanwhile, by who answered: {dict(answers)}")
    console.print(f"{endpoint['EndpointStatus']} again: {endpoint.get('FailureReason')}", soft_wrap=True)
    console.print(f"20 requests, by who answered: {dict(Counter(ask(runtime, 'food')[0] for _ in range(20)))}")


if __name__ == "__main__":
    demo_endpoint()
