// Which input of a configuration is which argument of `forward`, and which result is which output.
#pragma once

#include <ATen/core/function_schema.h>

#include <vector>

#include "config.h"

namespace pytorch_backend {

// How the tensors of a configuration meet the arguments and the results of `forward`.
struct Signature {
  // For each argument of `forward` the position of its input in the configuration, or -1: the argument's own default.
  std::vector<int> arguments;
  std::vector<c10::IValue> defaults;  // as many as `arguments`
  bool dictionary = false;            // `forward` takes one Dict[str, Tensor] of all inputs
  std::vector<size_t> results;        // for each output of the configuration its position in what `forward` returns
  bool results_by_index = false;
};

// Read it from the arguments of `forward`. Throws Failure for a configuration that does not fit them.
Signature read_signature(const c10::FunctionSchema& schema, const Config& config);

}  // namespace pytorch_backend
