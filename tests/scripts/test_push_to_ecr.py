"""`scripts/push_to_ecr.sh` with the aws command against ECR as moto plays it; docker's part is only written down.

One test runs the real command; for the others it runs in forks of one process, because its start takes most of a call.
The push itself, by a real engine into a real registry, is tested in tests/image/test_push.py.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.aws_forks import write_command
from tests.support.ecr import DOCKER_MANIFEST, REGISTRY, ROOT, Clone, aws_forks, moto

pytestmark = pytest.mark.e2e

# Writes its calls down; what is pushed appears in ECR, with the media type and the digest of a manifest.
DOCKER = f"""#!{sys.executable}
import hashlib, json, os, sys
words = sys.argv[1:]
if words[0] == "login":
    words.append(sys.stdin.read())
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(words) + "\\n")
if " ".join(words[:2]) == os.environ.get("FAILS") or words[0] == os.environ.get("FAILS"):
    sys.exit("docker: said by docker")
if words[:2] == ["image", "inspect"]:
    print(os.environ.get("PLATFORM", "linux/amd64"))
name = words[-1] if words[0] == "push" else next((w.split(",")[1][5:] for w in words if "push=true" in w), None)
if name:
    import boto3
    kind = os.environ.get("MEDIA_TYPE", "{DOCKER_MANIFEST}")
    manifest = json.dumps({{"schemaVersion": 2, "mediaType": kind, "config": {{}}, "layers": [], "name": name}})
    path, tag = name.split("/", 1)[1].rsplit(":", 1)
    boto3.client("ecr").put_image(repositoryName=path, imageTag=tag, imageManifest=manifest,
        imageManifestMediaType=kind, imageDigest="sha256:" + hashlib.sha256(manifest.encode()).hexdigest())
"""


class Pushed(Clone):
    """A clone with a docker that only writes down what it is told."""

    def __init__(self, folder: Path, aws: str) -> None:
        super().__init__(folder, aws, DOCKER)
        self.calls_file = folder / "calls"
        self.calls_file.touch()
        self.environment["CALLS"] = str(self.calls_file)

    def calls(self) -> list[list[str]]:
        """Docker's calls since this was asked last, but for those that only read."""
        calls = [json.loads(line) for line in self.calls_file.read_text().splitlines()]
        self.calls_file.write_text("")
        return [
            call
            for call in calls
            if call[0] != "info" and call[:2] not in (["buildx", "version"], ["image", "inspect"])
        ]


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("aws") / "socket"
    with aws_forks(path):
        yield path


@pytest.fixture
def clone(tmp_path: Path, aws: str, forks: Path, request: pytest.FixtureRequest) -> Pushed:
    made = Pushed(tmp_path, aws)
    if not hasattr(request, "param"):
        write_command(tmp_path / "bin" / "aws", forks)
    return made


@pytest.mark.parametrize("clone", ["real aws"], indirect=True)
def test_the_first_push_makes_the_repository_and_prints_the_digest(clone: Pushed) -> None:
    clone.scan("COMPLETE", ("MEDIUM", "CVE-1"), ("LOW", "CVE-2"))
    ended = clone.push("--", "--build-arg", "BASE_IMAGE=b")
    assert ended.returncode == 0, ended.stderr
    tag = f"{clone.commit[:12]}-cpu"
    [image] = clone.ecr("describe_images", repositoryName="ncf-triton")["imageDetails"]
    assert image["imageTags"] == [tag]
    assert ended.stdout == f"{REGISTRY}/ncf-triton@{image['imageDigest']}\n"
    [repository] = clone.ecr("describe_repositories")["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    policy = json.loads(clone.ecr("get_lifecycle_policy", repositoryName="ncf-triton")["lifecyclePolicyText"])
    assert policy == json.loads((ROOT / "scripts" / "ecr_lifecycle.json").read_text())
    login, build = clone.calls()
    assert login[:5] == ["login", "--username", "AWS", "--password-stdin", REGISTRY]
    assert login[5].strip() == "123456789012-auth-token"
    assert build[:6] == ["buildx", "build", "--platform", "linux/amd64", "--target", "cpu"]
    expected = {f"VERSION={clone.commit[:7]}", f"org.opencontainers.image.revision={clone.commit}", "BASE_IMAGE=b"}
    assert {"--provenance=false", "--sbom=false", *expected} < {*build}
    assert build[-2:] == [f"type=image,name={REGISTRY}/ncf-triton:{tag},oci-mediatypes=false,push=true", "."]


def test_a_git_tag_names_the_image_and_a_second_push_stops(clone: Pushed) -> None:
    clone.git("tag", "v1.2.0")
    clone.scan("ACTIVE")  # what ECR's enhanced scanning says when it has looked
    first = clone.push("--target", "gpu", FAILS="buildx version")  # an older Docker
    assert first.returncode == 0, first.stderr
    name = f"{REGISTRY}/ncf-triton:v1.2.0-gpu"
    assert "+ env DOCKER_BUILDKIT=1 docker build" in first.stderr
    _, build, push = clone.calls()
    assert (build[0], build[-3:], push) == ("build", ["--tag", name, "."], ["push", name])
    assert "VERSION=v1.2.0" in build
    second = clone.push("--target", "gpu")
    assert (second.returncode, second.stdout) == (2, "")
    assert f"the tag v1.2.0-gpu exists already, and tags cannot be moved: {first.stdout.strip()};" in second.stderr
    assert clone.calls() == []


def test_a_policy_that_is_there_stays_and_a_proxy_is_pushed_through(clone: Pushed) -> None:
    clone.ecr("create_repository", repositoryName="ncf-triton", imageTagMutability="IMMUTABLE")
    rule = {"rulePriority": 1, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 5}}
    policy = json.dumps({"rules": [{**rule, "action": {"type": "expire"}}]})
    clone.ecr("put_lifecycle_policy", repositoryName="ncf-triton", lifecyclePolicyText=policy)
    clone.scan("COMPLETE", ("HIGH", "CVE-1"))
    ended = clone.push("--image", "ncf-triton:cpu", "--tag", "tested", "--accept", "CVE-1", ECR_REGISTRY="proxy:5000")
    assert ended.returncode == 0, ended.stderr
    assert clone.ecr("get_lifecycle_policy", repositoryName="ncf-triton")["lifecyclePolicyText"] == policy
    login, tag, push = clone.calls()
    assert login[4] == "proxy:5000"
    assert (tag, push) == (
        ["tag", "ncf-triton:cpu", "proxy:5000/ncf-triton:tested"],
        ["push", "proxy:5000/ncf-triton:tested"],
    )
    assert ended.stdout.startswith(f"{REGISTRY}/ncf-triton@sha256:")


def test_a_dry_run_changes_nothing_and_says_everything(clone: Pushed) -> None:
    ended = clone.push("--dry-run")
    assert (ended.returncode, ended.stdout) == (0, "")
    calls = [line for line in ended.stderr.splitlines() if line.startswith("+ ")]
    words = [" ".join(line.split()[1:4]) for line in calls]
    assert words == [
        "aws sts get-caller-identity",
        "aws ecr describe-repositories",
        "aws ecr create-repository",
        "aws ecr get-lifecycle-policy",
        "aws ecr put-lifecycle-policy",
        "aws ecr describe-images",
        "aws ecr get-login-password",
        "docker buildx build",
        "aws ecr describe-image-scan-findings",
    ]
    assert clone.ecr("describe_repositories")["repositories"] == []
    assert clone.calls() == []


def test_findings_count_unless_they_are_accepted(clone: Pushed) -> None:
    clone.scan("COMPLETE", ("HIGH", "CVE-1"), ("CRITICAL", "CVE-22"), ("MEDIUM", "CVE-333"))
    ended = clone.push("--tag", "first", "--accept", "CVE-1", "--accept", "CVE-2")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "vulnerabilities that are HIGH or CRITICAL:\nCRITICAL\tCVE-22\thttps://cve/CVE-22\nupdate" in ended.stderr
    remove = "aws ecr batch-delete-image --repository-name ncf-triton --image-ids imageTag=first"
    assert ended.stderr.endswith(f"{remove}\n")


def test_a_scan_that_takes_too_long_gives_no_uri(clone: Pushed) -> None:
    clone.scan("IN_PROGRESS")
    ended = clone.push("--scan-timeout", "1")
    assert (ended.returncode, ended.stdout) == (1, "")
    later = (
        "look at it later: aws ecr describe-image-scan-findings --repository-name ncf-triton --image-id imageDigest="
    )
    assert re.search(f"the scan is (PENDING|IN_PROGRESS) after 1 s; {later}", ended.stderr)


def test_a_scan_that_fails_gives_no_uri(clone: Pushed) -> None:
    clone.scan("UNSUPPORTED_IMAGE")
    ended = clone.push()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert (
        "push_to_ecr.sh: the scan is UNSUPPORTED_IMAGE: as ECR says; do not use the image, which is in ECR already; "
        "to delete it: aws " in ended.stderr
    )


def test_a_manifest_that_sagemaker_refuses_is_refused(clone: Pushed) -> None:
    kind = "application/vnd.oci.image.index.v1+json"
    ended = clone.push(MEDIA_TYPE=kind)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"the manifest is {kind}, and SageMaker" in ended.stderr


def test_a_build_that_fails_ends_it(clone: Pushed) -> None:
    ended = clone.push(FAILS="buildx build")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.endswith("docker: said by docker\n")


def test_a_repository_with_tags_that_move_is_refused(clone: Pushed) -> None:
    clone.ecr("create_repository", repositoryName="ncf-triton")
    ended = clone.push()
    assert ended.returncode == 2
    remedy = ended.stderr.splitlines()[-1]
    assert remedy == "aws ecr put-image-tag-mutability --repository-name ncf-triton --image-tag-mutability IMMUTABLE"
    assert clone.calls() == []


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        ((), {"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "no region is set; set AWS_REGION, such as AWS_REGION=eu-"),
        ((), {"AWS_PROFILE": "nobody"}, "The config profile (nobody) could not be found; set AWS_PROFILE, or run"),
        ((), {"FAILS": "info"}, "no Docker engine answers; start it"),
        (("--target", "tpu"), {}, "--target is 'tpu'; choose cpu or gpu"),
        (("--tag", "a/b"), {}, "'a/b' is no tag; give one of letters, digits, '.', '_' and '-' with --tag"),
        (("--scan-timeout", "soon"), {}, "--scan-timeout is 'soon'; it must be a number of seconds"),
        (("--image", "x"), {}, "--image needs --tag, because the commit that x was built from is unknown"),
        (("--image", "x", "--tag", "y"), {"FAILS": "image inspect"}, "there is no image x here; `docker image ls`"),
        (
            ("--image", "x", "--tag", "y"),
            {"PLATFORM": "linux/arm64"},
            "x is for linux/arm64, and SageMaker takes linux/",
        ),
        (("--tag",), {}, "--tag takes a value; see --help"),
        (("--tags",), {}, "there is no option --tags; see --help"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    clone: Pushed, words: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    ended = clone.push(*words, **environment)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"push_to_ecr.sh: {said}")
    assert ended.stderr.count("\n") == 1
    assert clone.calls() == []


def test_a_tree_with_changes_needs_a_name_of_its_own(clone: Pushed) -> None:
    (clone.folder / "new.txt").write_text("")
    ended = clone.push()
    assert ended.returncode == 2
    assert "commit these changes, or name the image with --tag\n?? new.txt\n" in ended.stderr
    assert clone.push("--tag", "tried-out", "--dry-run").returncode == 0
