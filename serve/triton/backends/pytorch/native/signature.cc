#include "signature.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

namespace pytorch_backend {

namespace {

// The index in a name such as OUTPUT__1, the convention for names that are not arguments of `forward`.
std::optional<size_t> index_in(const std::string& name) {
  size_t at = name.rfind("__");
  size_t index = 0;
  if (at == std::string::npos || at + 2 == name.size()) return {};
  auto [end, error] = std::from_chars(name.data() + at + 2, name.data() + name.size(), index);
  if (error != std::errc() || end != name.data() + name.size()) return {};
  return index;
}

bool all_indexed(const std::vector<TensorConfig>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const auto& tensor) { return index_in(tensor.name); });
}

bool takes_strings(const c10::Argument& argument) {
  return argument.type()->isSubtypeOf(*c10::ListType::create(c10::StringType::get()));
}

void check_argument(const c10::Argument& argument, const TensorConfig& input) {
  bool strings = input.datatype == TYPE_BYTES;
  bool fits = strings ? takes_strings(argument) : c10::TensorType::get()->isSubtypeOf(*argument.type());
  if (fits) return;
  throw Failure(
      ERROR_INVALID_ARG, "input " + input.name + " is " + type_name(input.datatype) + ", but forward's argument " +
                             argument.name() + " is " + argument.type()->repr_str() + "; " +
                             (strings ? "a TYPE_STRING input needs List[str]" : "an input needs a Tensor"));
}

}  // namespace

Signature read_signature(const c10::FunctionSchema& schema, const Config& config) {
  Signature signature;
  std::vector<c10::Argument> arguments(schema.arguments().begin() + 1, schema.arguments().end());
  const auto& inputs = config.inputs;

  auto results = config.outputs.size();
  signature.results_by_index = all_indexed(config.outputs);
  for (size_t at = 0; at < results; ++at) {
    signature.results.push_back(signature.results_by_index ? *index_in(config.outputs[at].name) : at);
  }

  auto table = c10::DictType::create(c10::StringType::get(), c10::TensorType::get());
  if (arguments.size() == 1 && arguments[0].type()->isSubtypeOf(*table)) {
    signature.dictionary = true;
    return signature;
  }

  // By name if any name fits, else by index, else in order.
  std::set<std::string> names;
  for (const auto& argument : arguments) names.insert(argument.name());
  bool by_name = std::any_of(inputs.begin(), inputs.end(), [&](const auto& input) { return names.contains(input.name); });
  bool by_index = !by_name && all_indexed(inputs);
  signature.arguments.assign(arguments.size(), -1);
  for (size_t at = 0; at < inputs.size(); ++at) {
    size_t position = by_index ? *index_in(inputs[at].name) : at;
    if (by_name) {
      auto found = std::find_if(
          arguments.begin(), arguments.end(), [&](const auto& each) { return each.name() == inputs[at].name; });
      position = found - arguments.begin();
    }
    if (position >= arguments.size()) {
      throw Failure(
          ERROR_INVALID_ARG, "input " + inputs[at].name + " has no argument in forward, which takes " +
                                 std::to_string(arguments.size()) + ": name the inputs as forward names its arguments");
    }
    if (signature.arguments[position] != -1) {
      throw Failure(ERROR_INVALID_ARG, "input " + inputs[at].name + " meets an argument that another input has");
    }
    check_argument(arguments[position], inputs[at]);
    signature.arguments[position] = static_cast<int>(at);
  }
  for (size_t position = 0; position < arguments.size(); ++position) {
    const auto& argument = arguments[position];
    if (signature.arguments[position] == -1 && !argument.default_value()) {
      throw Failure(ERROR_INVALID_ARG, "no input is configured for forward's argument " + argument.name());
    }
    signature.defaults.push_back(argument.default_value().value_or(c10::IValue()));
  }
  return signature;
}

}  // namespace pytorch_backend
