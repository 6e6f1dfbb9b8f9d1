"""A tritonserver without serve, and the small TorchScript modules that tests load into it."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from serve.triton.runtime import find_runtime
from tests.support.serving import free_port


class Triton:
    """A tritonserver that loads models of a folder by name."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.models.mkdir()
        runtime = find_runtime(folder)
        self.port = free_port()
        command = [
            str(runtime.program),
            *runtime.arguments,
            f"--model-repository={self.models}",
            "--model-control-mode=explicit",
            "--http-address=127.0.0.1",
            f"--http-port={self.port}",
            "--allow-grpc=false",
            "--allow-metrics=false",
        ]
        self.log = folder / "triton.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=runtime.environment, stdout=log, stderr=log)

    def post(self, path: str, document: object = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v2/{path}", data=json.dumps(document or {}).encode(), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def add(self, name: str, module: nn.Module | bytes, config: str) -> tuple[int, Any]:
        """Write a model and load it."""
        folder = self.models / name / "1"
        folder.mkdir(parents=True)
        if isinstance(module, bytes):
            (folder / "model.pt").write_bytes(module)
        else:
            torch.jit.script(module).save(str(folder / "model.pt"))
        (folder.parent / "config.pbtxt").write_text(f'platform: "pytorch_libtorch"\n{config}')
        return self.post(f"repository/models/{name}/load")

    def ask(self, name: str, **inputs: tuple[str, list[int], list[Any]]) -> tuple[int, Any]:
        """Each input as (datatype, shape, data) -> the status and each output's data, or the error."""
        tensors = [{"name": n, "datatype": d, "shape": s, "data": v} for n, (d, s, v) in inputs.items()]
        status, answer = self.post(f"models/{name}/infer", {"inputs": tensors})
        if status != 200:
            return status, answer["error"]
        return status, {output["name"]: output["data"] for output in answer["outputs"]}


def tensor(name: str, kind: str, dims: str = "[ 1 ]", more: str = "") -> str:
    return f'{{ name: "{name}" data_type: TYPE_{kind} dims: {dims} {more} }}'


def config(inputs: list[str], outputs: list[str], batch: int = 8, more: str = "") -> str:
    return f"max_batch_size: {batch}\ninput [ {', '.join(inputs)} ]\noutput [ {', '.join(outputs)} ]\n{more}"


class Discount(nn.Module):
    def forward(self, price: Tensor, discount: Tensor, mask: Tensor | None = None) -> Tensor:
        total = price - discount
        return total if mask is None else total * mask


class Three(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, x * 2, x * 3


class Several(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, x + 1]


class Table(nn.Module):
    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return inputs["a"] - inputs["b"]


class Louder(nn.Module):
    def forward(self, words: list[str]) -> list[str]:
        return [word + "!" for word in words]


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum().reshape(1)


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 1)
        nn.init.ones_(self.table.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x).squeeze(-1)


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.half().to(torch.bfloat16).half()


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("this model always fails")
        return x


ONE = ("FP32", [1, 1], [5.0])
