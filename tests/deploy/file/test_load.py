"""Mistakes in a file: each has its line, the key, the value and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import UserError
from deploy.file.endpoint import EndpointFile
from deploy.file.load import load_endpoint
from tests.deploy.support import HOSTED, IMAGE, SINGLE, indented, written


def load(folder: Path, text: str) -> EndpointFile:
    return load_endpoint(written(folder, text)).content


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, text)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_plain_file_is_one_variant(tmp_path: Path) -> None:
    (variant,) = load(tmp_path, SINGLE).all_variants
    assert (variant.name, variant.weight) == ("AllTraffic", 1)
    assert variant.instances is not None
    assert variant.instances.count == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SINGLE.replace("instances:", "instanses:"), "@:6: instanses is unknown; did you mean instances?"),
        (SINGLE.replace("count:", "cont:"), "@:6: instances: cont is unknown; did you mean count?"),
        (SINGLE.replace("  model:", "\tmodel:"), "@:5: YAML is indented by spaces, and this line has a tab"),
        (SINGLE + "name: other\n", "@:7: name is there twice, first in line 1; keep one of them"),
        (SINGLE.replace("count: 2", "count: two"), "@:6: instances.count is two: input should be a valid int"),
        (SINGLE.replace("count: 2", 'count: "2"'), "@:6: instances.count is 2: input should be a valid int"),
        (SINGLE.replace("name: food\n", ""), "@:1: name is missing"),
        (SINGLE.replace("type: ml.c6i.xlarge, ", ""), "@:6: instances.type is missing"),
        (SINGLE.replace("food\n", "[food\n", 1), "@:"),
        (SINGLE + "vpc: yes\n", "@:7: vpc: it must be a mapping with keys of these: subnets, security_groups"),
        ("- a\n- b\n", "endpoint.yaml is not a mapping of keys to values"),
        ("", "endpoint.yaml is not a mapping of keys to values"),
        (SINGLE + "serverless: {memory_mb: 1024, max_concurrency: 1}\n", "give instances or serverless, and not both"),
        (f"name: food\n{HOSTED}variants: []\ncontainers: []\ninvocation: serial\n", "invocation is for several"),
        (f"name: food\n{HOSTED}lambda: {{image: {IMAGE}}}\n", "a Lambda function has no container, instances"),
        (f"name: food\n{HOSTED}variants:\n- name: A\n{indented(HOSTED)}", "with variants, container, instances"),
        (SINGLE.replace("s3://my-bucket/models/food.tar.gz", "food.tar.gz"), "food.tar.gz is a file here, so uploads"),
        (SINGLE.replace("  model:", "  models: s3://my-bucket/a/\n  model:"), "model and models exclude each other"),
        (SINGLE.replace(f"  image: {IMAGE}\n", ""), "@:3: container: image is missing: the URI that"),
        (SINGLE + "scaling: {min: 3, max: 2}\n", "scaling: min is 3 and max is 2; min must not be larger"),
        (SINGLE + "scaling: {min: 1, max: 2}\n", "scaling: nothing makes it scale; give target, step or schedule"),
        (SINGLE + "update: {strategy: canary}\n", "update: strategy canary needs percent, the size of a step"),
        (SINGLE + "update: {strategy: all_at_once, percent: 5}\n", "strategy all_at_once takes no percent"),
        (SINGLE + "update: {strategy: canery}\n", "update.strategy is canery: input should be 'all_at_once', 'canary'"),
        (SINGLE + "capture: {to: my-bucket}\n", "@:7: capture.to is my-bucket: string should match pattern"),
        (SINGLE + "scaling: {min: 1, max: 2, step: {metric: gpu_percent, steps: [{above: 1, add: -1}]}}\n", "is -1"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(text: str, expected: str, tmp_path: Path) -> None:
    assert expected.replace("@:", "endpoint.yaml:") in refusal(tmp_path, text)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    text = SINGLE.replace("count: 2", "count: two").replace("  model:", "  modell:")
    assert len(refusal(tmp_path, text).splitlines()) == 2


def test_numbers_and_booleans_are_text_in_an_environment(tmp_path: Path) -> None:
    text = SINGLE.replace(
        "  model:", "  environment: {SERVE_WORKERS: 4, ON: true, AT: 22:30, ACCOUNT: 012345678901, SAY: no}\n  model:"
    )
    (variant,) = load(tmp_path, text).all_variants
    assert variant.container is not None
    assert variant.container.environment == {
        "SERVE_WORKERS": "4",
        "ON": "true",
        "AT": "22:30",
        "ACCOUNT": "012345678901",
        "SAY": "no",
    }


def test_no_value_of_an_environment_is_printed(tmp_path: Path) -> None:
    text = SINGLE.replace("  model:", "  environment: {TOKEN: [hunter2]}\n  model:")
    message = refusal(tmp_path, text)
    assert "container.environment.TOKEN" in message
    assert "hunter2" not in message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory; -f takes an endpoint's file"):
        load_endpoint(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        load_endpoint(tmp_path / "latin.yaml")


def test_aliases_of_aliases_do_not_grow_without_end(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, after in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]")
    assert "write it without so many aliases" in refusal(tmp_path, "\n".join(lines) + "\n")


def test_control_characters_stay_out_of_messages(tmp_path: Path) -> None:
    assert "\x1b" not in refusal(tmp_path, SINGLE.replace("count: 2", 'count: "\\e[31m"'))
