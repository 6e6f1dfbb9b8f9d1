"""A tritonserver without serve, and the small TorchScript modules that tests load into it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from serve.triton.runtime import find_runtime
from tests.support.eventually import eventually
from tests.support.serving import free_port

TYPES = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "UINT16": torch.uint16,
    "UINT32": torch.uint32,
    "UINT64": torch.uint64,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "FP16": torch.float16,
    "BF16": torch.bfloat16,
    "FP32": torch.float32,
    "FP64": torch.float64,
}
NAMES = {dtype: name for name, dtype in TYPES.items()}


class Triton:
    """Context manager: a tritonserver that loads models of a folder by name."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.models.mkdir()
        runtime = find_runtime(folder)
        self.backends = runtime.backends
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

    def __enter__(self) -> Triton:
        eventually(self._is_live, about=self.log.read_text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unload all models, and end it without its exit handlers: one of libp11-kit hangs under AddressSanitizer."""
        self.process.send_signal(signal.SIGTERM)
        eventually(self._has_unloaded, about=self.log.read_text)
        self.process.kill()
        self.process.wait()

    def _has_unloaded(self) -> bool:
        assert self.process.poll() in (None, 0), self.log.read_text()
        return self.process.returncode == 0 or "Found 0 live models" in self.log.read_text()

    def _is_live(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/live", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

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
        self.write(name, module, config)
        return self.load(name)

    def load(self, name: str) -> tuple[int, Any]:
        return self.post(f"repository/models/{name}/load")

    def write(self, name: str, module: nn.Module | bytes, config: str) -> None:
        write_torchscript(self.models / name, module, config)

    def ask(self, name: str, **inputs: tuple[str, list[int], list[Any]]) -> tuple[int, Any]:
        """Each input as (datatype, shape, data) -> the status and each output's data, or the error."""
        tensors = [{"name": n, "datatype": d, "shape": s, "data": v} for n, (d, s, v) in inputs.items()]
        status, answer = self.post(f"models/{name}/infer", {"inputs": tensors})
        if status != 200:
            return status, answer["error"]
        return status, {output["name"]: output["data"] for output in answer["outputs"]}

    def send(self, name: str, head: bytes, rest: bytes = b"") -> tuple[int, bytes, bytes]:
        """A request whose JSON part is `head` -> the status, and of the answer the JSON part and the bytes after it."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v2/models/{name}/infer",
            data=head + rest,
            headers={"Inference-Header-Content-Length": str(len(head))},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                body = answer.read()
                length = int(answer.headers.get("Inference-Header-Content-Length", len(body)))
                return answer.status, body[:length], body[length:]
        except urllib.error.HTTPError as error:
            return error.code, error.read(), b""

    def infer(self, name: str, **inputs: Tensor) -> tuple[int, dict[str, Tensor] | str]:
        """Ask in Triton's binary form -> the status and the outputs, or the error."""
        parts = {
            key: value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for key, value in inputs.items()
        }
        tensors = [
            {
                "name": key,
                "datatype": NAMES[value.dtype],
                "shape": list(value.shape),
                "parameters": {"binary_data_size": len(parts[key])},
            }
            for key, value in inputs.items()
        ]
        head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
        status, head, rest = self.send(name, head, b"".join(parts.values()))
        if status != 200:
            return status, str(json.loads(head)["error"])
        outputs, at = {}, 0
        for each in json.loads(head)["outputs"]:
            data = bytearray(rest[at : at + each["parameters"]["binary_data_size"]])
            at += len(data)
            empty = torch.empty(0, dtype=TYPES[each["datatype"]])
            flat = torch.frombuffer(data, dtype=empty.dtype) if data else empty
            outputs[each["name"]] = flat.reshape(each["shape"])
        assert at == len(rest)
        return status, outputs


def write_torchscript(folder: Path, module: nn.Module | bytes, config: str) -> None:
    """Version 1 of a model, of a module or the bytes of its file; `folder` is the model's own."""
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.pt").write_bytes(module if isinstance(module, bytes) else saved(module))
    (folder / "config.pbtxt").write_text(f'platform: "pytorch_libtorch"\n{config}')


def saved(module: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


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
        return x.half()


class Brain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.bfloat16)


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("this model always fails")
        return x


class Deep(nn.Module):
    """Frees lists in lists, `x` deep. PyTorch frees each inside the one around it, so many of them exhaust the stack:
    the one way to kill the process that TorchScript has, which takes no recursion."""

    def forward(self, x: Tensor) -> Tensor:
        outer: list[Any] = []
        for _ in range(int(x.sum().item())):
            around: list[Any] = []
            around.append(outer)
            outer = around
        return x


class Loops(nn.Module):
    """Ends if `x` is not zero. The loop computes the result, because TorchScript leaves out one that does not."""

    def forward(self, x: Tensor) -> Tensor:
        while not x.any():
            x = x * 2
        return x


FLOAT = config([tensor("x", "FP32")], [tensor("y", "FP32")])
ONE = ("FP32", [1, 1], [5.0])
