"""Takes the place of Triton's `pytorch` backend where there is no libtorch: runs TorchScript in the Python backend.

Triton's Python stub runs this file in one process for each instance of a model; nothing in `serve` imports it. It does
the same as the libtorch backend (https://github.com/triton-inference-server/pytorch_backend), so a repository runs on
both. Inputs become the arguments of `forward` by name, or else by `<name>__<index>`, or else in the order of the
configuration; outputs are matched by `<name>__<index>`, or else in order. Tensors are passed by DLPack, because this
stub does not work with NumPy 2.
"""

import json
import re
from pathlib import Path

import torch
import triton_python_backend_utils as pb_utils
from torch.utils.dlpack import from_dlpack, to_dlpack

INDEXED = re.compile(r".*__(\d+)$")


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        # By default one thread for each instance, because several models share the cores.
        torch.set_num_threads(int(parameters.get("INTRA_OP_THREAD_COUNT", 1)))
        gpu = args["model_instance_kind"] == "GPU"
        self.device = torch.device(f"cuda:{args['model_instance_device_id']}" if gpu else "cpu")
        file = Path(args["model_repository"], args["model_version"], config.get("default_model_filename") or "model.pt")
        try:
            self.module = torch.jit.load(file, map_location=self.device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise pb_utils.TritonModelException(f"{file} cannot be loaded as TorchScript: {reason}") from None
        self.batched = config["max_batch_size"] > 0
        arguments = [argument.name for argument in self.module.forward.schema.arguments][1:]
        self.inputs = _in_order([tensor["name"] for tensor in config["input"]], arguments)
        self.outputs = _in_order([tensor["name"] for tensor in config["output"]], None)

    def execute(self, requests):
        """Runs the rows of all requests at once; if that fails, each request alone, so that only the bad ones fail."""
        columns = [[self._input(request, name) for name in self.inputs] for request in requests]
        if self.batched and len(requests) > 1:
            try:
                outputs = self._forward([torch.cat(parts) for parts in zip(*columns, strict=True)])
                return self._split(outputs, [len(parts[0]) for parts in columns])
            except RuntimeError:
                if self.device.type == "cuda" and not _cuda_alive():
                    raise
        return [self._alone(parts) for parts in columns]

    def _input(self, request, name):
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        return from_dlpack(tensor.to_dlpack()).to(self.device)

    def _alone(self, parts):
        try:
            return self._split(self._forward(parts), [len(parts[0]) if self.batched else None])[0]
        except RuntimeError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _forward(self, tensors):
        with torch.inference_mode():
            outputs = self.module(*tensors)
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        return [output.cpu().contiguous() for output in outputs]

    def _split(self, outputs, rows):
        named = list(zip(self.outputs, outputs, strict=True))
        if len(rows) == 1:
            tensors = [pb_utils.Tensor.from_dlpack(name, to_dlpack(value.clone())) for name, value in named]
            return [pb_utils.InferenceResponse(tensors)]
        parts = [[part.clone() for part in value.split(rows)] for value in outputs]
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor.from_dlpack(name, to_dlpack(part))
                    for name, part in zip(self.outputs, request, strict=True)
                ]
            )
            for request in zip(*parts, strict=True)
        ]


def _in_order(names, arguments):
    """The configuration's names in the order of the module's arguments or, with None, of its outputs."""
    if arguments is not None and set(names) == set(arguments):
        return arguments
    if all(INDEXED.match(name) for name in names):
        return sorted(names, key=lambda name: int(INDEXED.match(name).group(1)))
    return names


def _cuda_alive():
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True
