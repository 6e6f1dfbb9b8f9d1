"""`ncf-deploy local --docker`: the image behind SageMaker's API on this machine, and as a training job."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from tests.deploy.local.support import FILE, OURS, REGION, Local, ended
from tests.deploy.support import written
from tests.image.docker import CPU, docker
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]
IMAGES = {"ncf-triton:v1": CPU}
SERVED = f"uploads: s3://my-bucket/ncf\n{FILE}".replace(f"image: {OURS}", f"image: {OURS}, model: food.tar.gz")
TRAINED = f"""\
name: food
region: {REGION}
role: arn:aws:iam::123456789012:role/ncf-training
image: {OURS.replace("stand-in", "ncf-triton")}
instances: {{type: ml.m5.2xlarge, count: 1, volume_gb: 30}}
channels: {{train: {{from: s3://my-bucket/clicks/}}}}
hyperparameters: {{model: gmf, epochs: 1, num_factors: 4}}
output: s3://my-bucket/runs
"""


def containers() -> list[str]:
    return docker("ps", "--all", "--quiet", "--filter=name=ncf-deploy-local-").stdout.split()


def test_an_endpoint_of_the_image(trained: Path, tmp_path: Path) -> None:
    package = ROOT / "scripts" / "package_model.sh"
    subprocess.run([package, trained, "-o", tmp_path / "food.tar.gz"], check=True, capture_output=True)
    local = Local(written(tmp_path, SERVED.replace("stand-in", "ncf-triton")), images=IMAGES)
    local.command.append("--docker")
    with local:
        local.ready()

        def asked() -> list[str]:
            answer = local.runtime.invoke_endpoint(EndpointName="shop", Body=b'{"user_id": "u1", "k": 3}')
            return [one["item_id"] for one in json.loads(answer["Body"].read())["recommendations"]]

        assert len(before := asked()) == 3
        (container,) = containers()
        docker("kill", container)
        local.says("ended with code 137 and is started again")
        local.says("is healthy again")
        assert asked() == before
        assert "1 restarts of its containers" in local.stop()
    eventually(lambda: not containers())


def test_a_training_job_of_the_image(tmp_path: Path) -> None:
    rows = [f"u{user},i{item}" for user in range(30) for item in range(40) if item % 5 == user % 5]
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    try:
        s3 = boto3.client(
            "s3", region_name=REGION, endpoint_url=url, aws_access_key_id="x", aws_secret_access_key="x"
        )  # fmt: skip
        s3.create_bucket(Bucket="my-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket="my-bucket", Key="clicks/a.csv", Body="\n".join(["user_id,item_id", *rows]).encode())
        job = written(tmp_path, TRAINED, "job.yaml")
        done = ended(job, images=IMAGES, arguments=("--docker",), AWS_ENDPOINT_URL=url)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[0].endswith("/output/model.tar.gz")
    finally:
        server.stop()
    assert not containers()


def test_an_image_that_is_not_on_this_machine(tmp_path: Path) -> None:
    done = ended(written(tmp_path, FILE), images={"stand-in:v1": "localhost/no-such:v1"}, arguments=("--docker",))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "the image localhost/no-such:v1 is not on this machine; docker pull localhost/no-such:v1" in done.stderr
