// Triton's `pytorch` backend: the functions that the server calls. Each turns an exception into Triton's error.
#include <ATen/Context.h>

#include <memory>

#include "execute.h"

using namespace pytorch_backend;

namespace {

using SharedModel = std::shared_ptr<Model>;

template <typename Work>
TRITONSERVER_Error* guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    Failure failure = failure_of(error);
    return TRITONSERVER_ErrorNew(failure.code, failure.what());
  }
}

c10::Device device_of(TRITONBACKEND_ModelInstance* instance) {
  TRITONSERVER_InstanceGroupKind kind;
  int32_t id = 0;
  check(TRITONBACKEND_ModelInstanceKind(instance, &kind));
  check(TRITONBACKEND_ModelInstanceDeviceId(instance, &id));
  if (kind == KIND_GPU) return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(id));
  if (kind != KIND_CPU && at::hasCUDA()) return c10::Device(c10::kCUDA, 0);
  return c10::kCPU;
}

std::string config_of(TRITONBACKEND_Model* model) {
  TRITONSERVER_Message* message = nullptr;
  const char* text = nullptr;
  size_t length = 0;
  check(TRITONBACKEND_ModelConfig(model, 1, &message));
  TRITONSERVER_Error* error = TRITONSERVER_MessageSerializeToJson(message, &text, &length);
  std::string json = error ? "" : std::string(text, length);
  TRITONSERVER_MessageDelete(message);
  check(error);
  return json;
}

}  // namespace

extern "C" {

#define TRITON_ENTRY __attribute__((visibility("default"))) TRITONSERVER_Error*

TRITON_ENTRY TRITONBACKEND_Initialize(TRITONBACKEND_Backend*) {
  return guarded([] {
    uint32_t major = 0, minor = 0;
    check(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != API_VERSION_MAJOR || minor < API_VERSION_MINOR) {
      throw Failure(
          ERROR_UNSUPPORTED, "this pytorch backend needs Triton's backend API " + std::to_string(API_VERSION_MAJOR) +
                                 "." + std::to_string(API_VERSION_MINOR) + " or a later minor version; the server has " +
                                 std::to_string(major) + "." + std::to_string(minor));
    }
  });
}

TRITON_ENTRY TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  return guarded([model] {
    const char* name = nullptr;
    const char* folder = nullptr;
    uint64_t version = 0;
    TRITONBACKEND_ArtifactType type;
    check(TRITONBACKEND_ModelName(model, &name));
    check(TRITONBACKEND_ModelVersion(model, &version));
    check(TRITONBACKEND_ModelRepository(model, &type, &folder));
    if (type != ARTIFACT_FILESYSTEM) throw Failure(ERROR_UNSUPPORTED, "a model must be a folder of files");
    try {
      auto state = std::make_unique<SharedModel>(
          std::make_shared<Model>(name, folder, version, read_config(config_of(model))));
      check(TRITONBACKEND_ModelSetState(model, state.get()));
      state.release();
    } catch (const Failure& failure) {
      throw Failure(failure.code, std::string(folder) + "/config.pbtxt: " + failure.what());
    }
  });
}

TRITON_ENTRY TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
  return guarded([model] {
    void* state = nullptr;
    check(TRITONBACKEND_ModelState(model, &state));
    delete static_cast<SharedModel*>(state);
  });
}

TRITON_ENTRY TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([instance] {
    TRITONBACKEND_Model* model = nullptr;
    void* state = nullptr;
    check(TRITONBACKEND_ModelInstanceModel(instance, &model));
    check(TRITONBACKEND_ModelState(model, &state));
    auto made = std::make_unique<Instance>(**static_cast<SharedModel*>(state), device_of(instance));
    check(TRITONBACKEND_ModelInstanceSetState(instance, made.get()));
    made.release();
  });
}

TRITON_ENTRY TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([instance] {
    void* state = nullptr;
    check(TRITONBACKEND_ModelInstanceState(instance, &state));
    delete static_cast<Instance*>(state);
  });
}

TRITON_ENTRY TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, const uint32_t count) {
  return guarded([=] {
    void* state = nullptr;
    check(TRITONBACKEND_ModelInstanceState(instance, &state));
    static_cast<Instance*>(state)->execute(instance, requests, count);
  });
}

}  // extern "C"
