"""Weights, shadows, and updates in steps with their way back."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.deploy.local.support import FILE, OURS, REGION, Local
from tests.deploy.support import written
from tests.support.eventually import eventually

VARIANT = f"""\
  - name: {{name}}
    weight: {{weight}}
    container: {{{{image: {OURS}, environment: {{{{VERSION: {{name}}}}}}}}}}
    instances: {{{{type: ml.c6i.xlarge}}}}
"""


def two_variants(champion: float, challenger: float) -> str:
    variants = VARIANT.format(name="Champion", weight=champion) + VARIANT.format(name="Challenger", weight=challenger)
    return f"name: shop\nregion: {REGION}\nvariants:\n{variants}"


def version(number: int, more: str = "", environment: str = "") -> str:
    return FILE.replace("}\ninst", f", environment: {{VERSION: {number}{environment}}}}}\ninst") + more


def ask(local: Local, body: bytes = b"{}", **parameters: Any) -> str:
    """The version that answered; empty if it answered with an error."""
    try:
        answer = local.runtime.invoke_endpoint(EndpointName="shop", Body=body, **parameters)
    except local.runtime.exceptions.ModelError:
        return ""
    return str(json.loads(answer["Body"].read())["version"])


def hang_up(local: Local, path: Path, text: str) -> None:
    path.write_text(text)
    local.process.send_signal(signal.SIGHUP)


def status(local: Local, wanted: str) -> Callable[[], bool]:
    return lambda: bool(local.describe()["EndpointStatus"] == wanted)


def test_requests_are_shared_by_weight_and_weights_shift_without_a_start(tmp_path: Path) -> None:
    path = written(tmp_path, two_variants(9, 1))
    with Local(path) as local:
        local.ready()
        shares = Counter(ask(local) for _ in range(300))
        assert 0 < shares["Challenger"] < shares["Champion"]
        assert {ask(local, TargetVariant="Challenger") for _ in range(5)} == {"Challenger"}
        weights = [{"VariantName": "Champion", "DesiredWeight": 0}]
        local.sagemaker.update_endpoint_weights_and_capacities(EndpointName="shop", DesiredWeightsAndCapacities=weights)
        assert {ask(local) for _ in range(20)} == {"Challenger"}
        assert [one["CurrentWeight"] for one in local.describe()["ProductionVariants"]] == [0, 1]
        for wrong, words in (
            ([{"VariantName": "Other", "DesiredWeight": 1}], "no variant Other"),
            ([{"VariantName": "Challenger", "DesiredWeight": 0}], "all weights would be 0"),
            ([{"VariantName": "Challenger", "DesiredInstanceCount": 3}], "only DesiredWeight"),
        ):
            with pytest.raises(ClientError, match=words):
                local.sagemaker.update_endpoint_weights_and_capacities(
                    EndpointName="shop", DesiredWeightsAndCapacities=wrong
                )
        hang_up(local, path, two_variants(1, 0))
        local.says("weights shifted from Champion 0, Challenger 1 to Champion 1, Challenger 0")
        assert {ask(local) for _ in range(20)} == {"Champion"}
        summary = local.stop()
    assert "version 2" not in summary
    assert "weights shifted from Champion 9, Challenger 1 to Champion 0, Challenger 1" in summary


def test_a_canary_takes_over_step_by_step(tmp_path: Path) -> None:
    update = "update: {strategy: canary, percent: 50, wait_seconds: 3}\n"
    path = written(tmp_path, version(1))
    with Local(path) as local:
        local.ready()
        assert ask(local) == "1"
        hang_up(local, path, version(2, update))
        local.says("version 2 gets 50 % of the requests")
        with pytest.raises(ClientError, match="Updating; wait until it is InService"):
            local.sagemaker.update_endpoint_weights_and_capacities(
                EndpointName="shop", DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredWeight": 2}]
            )
        assert {ask(local) for _ in range(60)} == {"1", "2"}
        local.says("version 2 gets 100 % of the requests")
        eventually(status(local, "InService"))
        assert {ask(local) for _ in range(20)} == {"2"}
        hang_up(local, path, version(2, update).replace("name: shop", "name: other"))
        local.says("shop is not updated: the file now names the endpoint other")
        hang_up(local, path, "name: shop\n\tinst")
        local.says("this line has a tab")
        assert "version 2 has replaced version 1" in local.stop()


def test_an_update_that_fails_is_taken_back(tmp_path: Path) -> None:
    path = written(tmp_path, version(1))
    rollback = "update: {strategy: canary, percent: 50, wait_seconds: 600, rollback: {errors_percent: 20}}\n"
    with Local(path) as local:
        local.ready()
        hang_up(local, path, version(2, rollback, ", BROKEN: 1"))
        local.says("version 2 gets 50 %")
        eventually(lambda: ask(local) == "")
        eventually(status(local, "InService"))
        assert "AllTraffic answered 100.0 % with 5xx" in local.describe()["FailureReason"]
        assert {ask(local) for _ in range(20)} == {"1"}
        hang_up(local, path, version(3, rollback, ", ENDS: 1"))
        local.says("version 3 was rolled back to version 1: shop/3/AllTraffic/primary ended with code 1")
        assert "this container ends at once" in local.describe()["FailureReason"]
        assert ask(local) == "1"
        summary = local.stop()
    assert "version 2 was rolled back to version 1: AllTraffic answered 100.0 % with 5xx" in summary


def test_a_shadow_gets_copies_and_its_lists_are_compared(tmp_path: Path) -> None:
    def answer(*items: str) -> str:
        return json.dumps({"recommendations": [{"item_id": item} for item in items]})

    path = written(tmp_path, version(1) + f"shadow:\n  container: {{image: {OURS}, environment: {{VERSION: 2}}}}\n"
                   "  instances: {type: ml.c6i.xlarge}\n")  # fmt: skip
    with Local(path) as local:
        local.ready()
        assert [one["VariantName"] for one in local.describe()["ShadowProductionVariants"]] == ["Shadow"]
        for _ in range(4):
            body = json.dumps({"make": {"text": answer("a", "b")}}).encode()
            local.runtime.invoke_endpoint(EndpointName="shop", Body=body)["Body"].read()
        ask(local, b'{"make": {"status": 500}}')
        summary = local.stop()
    assert "version 1, AllTraffic, weight 1: 5 requests, 0 × 4xx, 1 × 5xx" in summary
    assert "version 1, shadow Shadow: 5 requests, 0 × 4xx, 1 × 5xx" in summary
    assert "4 lists compared: 4 equal, 100.0 % of the items in both" in summary


def test_a_serverless_endpoint_starts_cold_and_refuses_what_is_too_much(tmp_path: Path) -> None:
    path = written(tmp_path, FILE.replace("instances: {type: ml.c6i.xlarge, count: 2}",
                                          "serverless: {memory_mb: 2048, max_concurrency: 1}"))  # fmt: skip
    with Local(path) as local:
        local.ready()
        assert "cold start" not in local.log.read_text()
        ask(local)
        local.says("a cold start")
        ask(local)
        with pytest.raises(ClientError, match="exceeded 4194304 bytes"):
            ask(local, b"x" * (4 * 2**20 + 1))
        with ThreadPoolExecutor(1) as pool:

            def is_refused(body: bytes) -> bool:
                try:
                    ask(local, body)
                except ClientError as error:
                    return bool(error.response["Error"]["Code"] == "ThrottlingException")
                return False

            slow = pool.submit(eventually, lambda: not is_refused(b'{"make": {"seconds": 3}}'))
            eventually(lambda: is_refused(b"{}"))
            assert slow.result()
        assert "1 cold starts" in local.stop()
