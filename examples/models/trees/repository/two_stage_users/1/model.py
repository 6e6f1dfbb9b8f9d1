"""Raw user ids to queries for the first stage; a user who is not known has index -1."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as triton

USER = 1  # the kind of a query's row (ncf/export/query.py)


class TritonPythonModel:
    def initialize(self, args):
        users = json.loads(Path(__file__).with_name("users.json").read_text())
        self.index = {user: index for index, user in enumerate(users)}

    def execute(self, requests):
        return [self.answer(triton.get_input_tensor_by_name(request, "user_id").as_numpy()) for request in requests]

    def answer(self, users):
        rows = [[[USER, self.index.get(user.decode(errors="replace"), -1)]] for user in users]
        return triton.InferenceResponse([triton.Tensor("query", np.array(rows, np.int64))])
