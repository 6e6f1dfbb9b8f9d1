"""XGBoost's trees in Python. On NVIDIA's image the FIL backend takes the same file, names and shapes (../../../fil)."""

from pathlib import Path

import triton_python_backend_utils as triton
import xgboost


class TritonPythonModel:
    def initialize(self, args):
        self.trees = xgboost.Booster({"nthread": 1}, model_file=Path(__file__).with_name("xgboost.ubj"))

    def execute(self, requests):
        return [self.answer(triton.get_input_tensor_by_name(request, "input__0").as_numpy()) for request in requests]

    def answer(self, rows):
        return triton.InferenceResponse([triton.Tensor("output__0", self.trees.inplace_predict(rows)[:, None])])
