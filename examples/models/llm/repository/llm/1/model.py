"""Texts and chats to their continuations, by the model of Hugging Face's in this folder."""

import json
import queue
import threading
from pathlib import Path

import numpy as np
import triton_python_backend_utils as triton
from asked import KNOWN, Refused

FINAL = triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(__file__).parent
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):  # before the libraries are loaded
            if not (folder / name).is_file():
                raise Refused(f"{name} is missing in {folder}; copy it from the model's folder of Hugging Face's")
        from engine import Engine

        given = {key: each["string_value"] for key, each in json.loads(args["model_config"])["parameters"].items()}
        self.engine = Engine(folder, given.get("quantize", ""), given.get("device_map", ""))
        self.most = int(given.get("max_rows", "32"))
        self.waiting = queue.SimpleQueue()
        self.stopped = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            try:
                self.waiting.put(Answer(self.engine, request, sender))
            except Refused as error:
                # Triton's HTTP drops the code of a decoupled model's error, so the message begins with it.
                send_error(sender, f"Invalid argument: {error}", triton.TritonError.INVALID_ARG)

    def finalize(self):
        self.stopped = True
        self.waiting.put(None)
        self.thread.join()

    def run(self):
        """Answer requests until the model is unloaded: those that come are taken up between two steps."""
        under_way = []
        while not self.stopped:
            new = []
            while len(under_way) + len(new) < self.most and (not self.waiting.empty() or not (under_way or new)):
                one = self.waiting.get()
                if one is None:
                    return
                new.append(one)
            under_way += new
            try:
                if new:
                    self.engine.add([answer.row for answer in new])
                self.engine.step()
            except Exception as error:  # such as too little memory: the requests under way fail, and others go on
                triton.Logger.log_error(f"the batch of {len(under_way)} texts failed: {error!r}")
                for answer in under_way:
                    send_error(answer.sender, f"the model failed: {error!r}", triton.TritonError.INTERNAL)
                self.engine.forget()
                under_way = []
                continue
            for answer in under_way:
                answer.send()
            under_way = [answer for answer in under_way if not answer.row.finish]


class Answer:
    """One request: its row in the engine, and who gets the answer."""

    def __init__(self, engine, request, sender):
        """Raises Refused."""
        text, messages, parameters = (read(request, name) for name in ("text_input", "messages", "sampling_parameters"))
        if (text is None) == (messages is None):
            raise Refused("send either text_input or messages")
        # The request's own parameters have further ones, such as headers that were passed on.
        asked = {key: value for key, value in json.loads(request.parameters() or "{}").items() if key in KNOWN}
        if parameters is not None:
            asked = as_json("sampling_parameters", parameters, dict)
            if unknown := asked.keys() - {*KNOWN}:
                raise Refused(
                    f"{', '.join(sorted(unknown))} is unknown in sampling_parameters; known: {', '.join(KNOWN)}"
                )
        self.row = engine.row(text, None if messages is None else as_json("messages", messages, list), **asked)
        self.sender = sender
        self.stream = bool(read(request, "stream"))
        shown = read(request, "exclude_input_in_output")
        self.before = (text or "") if not self.stream and not shown else ""  # as vLLM's backend does
        self.wants = [name for name in ("finish_reason", "num_input_tokens", "num_output_tokens")
                      if read(request, f"return_{name}")]  # fmt: skip

    def send(self):
        """Send what there is to send; an answer that nobody waits for ends its row."""
        if self.sender.is_cancelled():
            triton.Logger.log_info(f"a client left, and {self.row.left:,} tokens are not made")
            self.row.finish = "cancelled"
            self.sender.send(flags=FINAL)
        elif self.row.finish or (self.stream and self.row.ready):
            text, count = self.row.take()
            values = {
                "finish_reason": np.array([self.row.finish or "None"], object),
                "num_input_tokens": np.array([len(self.row.prompt)], np.uint32),
                "num_output_tokens": np.array([count], np.uint32),
            }
            tensors = [triton.Tensor("text_output", np.array([self.before + text], object))]
            tensors += [triton.Tensor(name, values[name]) for name in self.wants]
            self.sender.send(triton.InferenceResponse(tensors), flags=FINAL if self.row.finish else 0)


def read(request, name):
    """An input's value, None without it."""
    tensor = triton.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    value = tensor.as_numpy().flat[0]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def as_json(name, text, kind):
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{name} is not JSON: {error}") from error
    if not isinstance(value, kind):
        raise Refused(f"{name} is not {'an object' if kind is dict else 'a list'} in JSON")
    return value


def send_error(sender, message, code):
    sender.send(triton.InferenceResponse(error=triton.TritonError(message, code)), flags=FINAL)
