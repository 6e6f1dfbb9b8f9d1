"""Text to tokens, by the tokenizer.json beside this file."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as triton
from tokenizers import Tokenizer

MOST_TOKENS = 256  # with more the model was not trained
# Every request is filled up to a multiple of this: Triton merges requests of one length only.
STEP = 32


class TritonPythonModel:
    def initialize(self, args):
        self.tokenizer = Tokenizer.from_str(Path(__file__).with_name("tokenizer.json").read_text("utf-8"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def execute(self, requests):
        return [self.answer(triton.get_input_tensor_by_name(request, "text").as_numpy()) for request in requests]

    def answer(self, texts):
        found = [
            each.ids for each in self.tokenizer.encode_batch([text.decode(errors="replace") for text in texts.flat])
        ]
        for number, (text, ids) in enumerate(zip(texts.flat, found, strict=True)):
            if not text.strip():
                return refused(f"text {number} is empty; send words")
            if len(ids) > MOST_TOKENS:
                return refused(
                    f"text {number} has {len(ids)} tokens, and the model reads {MOST_TOKENS}; send it in parts"
                )
        width = -(-max(map(len, found)) // STEP) * STEP
        input_ids, attention_mask = np.zeros((2, len(found), width), np.int64)
        for row, ids in enumerate(found):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        tensors = [triton.Tensor("input_ids", input_ids), triton.Tensor("attention_mask", attention_mask)]
        return triton.InferenceResponse(tensors)


def refused(message):
    return triton.InferenceResponse(error=triton.TritonError(message, triton.TritonError.INVALID_ARG))
