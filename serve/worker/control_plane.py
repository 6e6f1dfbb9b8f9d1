"""The control plane: Flask, for loading and listing models, metrics, a batch transform's limits, and OpenAPI."""

from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path
from typing import Any

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from serve.errors import BadRequest, MethodNotAllowed, UnknownModel, show
from serve.models.multi_model import MultiModel, unknown
from serve.models.served import ServedFile
from serve.models.view import View
from serve.settings import Settings
from serve.telemetry.page_socket import METRICS_TYPE, read_page
from serve.triton.admin import TritonAdmin
from serve.worker.openapi import openapi_document
from serve.worker.sagemaker_headers import TARGET_MODEL

# The name becomes the name of a folder, and the beginning of the names of further folders.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
MODELS_PER_PAGE = 1000
# SageMaker's default payload of a batch transform, and its limit for payload × concurrency.
PAYLOAD_MB, TOTAL_MB = 6, 100
MULTI_MODEL_OFF = "multi-model mode is off; SAGEMAKER_MULTI_MODEL=true turns it on"


def create_control_plane(settings: Settings, served: ServedFile, admin: TritonAdmin, page: Path) -> Flask:
    """The Flask application of one worker; `page` is the socket of the metrics. Its views raise ServeError."""
    app = Flask("serve", static_folder=None)
    app.config["PROPAGATE_EXCEPTIONS"] = True  # Application answers ServeErrors and bugs, as it does for the data plane
    app.url_map.merge_slashes = False  # merging them redirects to the host in the caller's Host header
    if settings.multi_model:
        _add_multi_model(app, MultiModel(settings.multi_model_root.absolute(), served.path.parent), served, admin)
    else:
        _add_single_model(app, settings, served, admin)

    @app.route("/models/<name>/invoke", methods=["GET", "PUT", "PATCH", "DELETE"])
    def invoke(name: str) -> Response:
        raise MethodNotAllowed(f"{request.method} {show(request.path)} is not possible; use POST", "POST")

    @app.get("/execution-parameters")
    def parameters() -> Response:
        return _json(execution_parameters(settings))

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(read_page(page), content_type=METRICS_TYPE)

    @app.get("/openapi.json")
    def openapi() -> Response:
        return _json(openapi_document(settings))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        if error.code == 404:
            message = "there is no such path; inference is POST /invocations"
        else:
            message = error.description or error.name
        response = _json({"error": message, "code": error.name.lower().replace(" ", "_")}, error.code or 500)
        allowed = getattr(error, "valid_methods", None)
        if allowed:
            response.headers["Allow"] = ", ".join(sorted(allowed))
        return response

    return app


def _add_multi_model(app: Flask, models: MultiModel, served: ServedFile, admin: TritonAdmin) -> None:
    """Add the paths that SageMaker requires of a multi-model container."""

    @app.post("/models")
    def load() -> Response:
        name, url = _asked(request.get_data())
        models.load(admin, name, url, _target())
        return Response(status=200, content_type="text/plain")

    @app.get("/models")
    def loaded() -> Response:
        """The loaded models in the order of their names, from the first one after `next_page_token`."""
        urls = served.current().urls
        names = sorted(urls)
        first = bisect_right(names, request.args.get("next_page_token", ""))
        page = names[first : first + MODELS_PER_PAGE]
        answer: dict[str, Any] = {"models": [{"modelName": name, "modelUrl": urls[name]} for name in page]}
        if first + len(page) < len(names):
            answer["nextPageToken"] = page[-1]
        return _json(answer)

    @app.delete("/models")
    def unload_nothing() -> Response:
        raise UnknownModel("DELETE /models names no model; use DELETE /models/<model_name>")

    @app.get("/models/<name>")
    def model(name: str) -> Response:
        url = served.current().urls.get(name)
        if url is None:
            raise unknown(name)
        return _json({"modelName": name, "modelUrl": url})

    @app.delete("/models/<name>")
    def unload(name: str) -> Response:
        models.unload(admin, name, _target())
        return Response(status=200, content_type="text/plain")


def _add_single_model(app: Flask, settings: Settings, served: ServedFile, admin: TritonAdmin) -> None:
    """Add the paths that list the models of the repository; they cannot be loaded or unloaded here."""
    outside = View(settings.model_repository.absolute(), served.view).as_seen_outside

    def listed() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """The models that Triton has loaded, and those that it could not load, each with the reason."""
        loaded: list[dict[str, str]] = []
        unavailable: list[dict[str, str]] = []
        state = served.current()
        for version, reason in state.failed.items():
            name, _, number = version.rpartition("/")
            unavailable.append({"modelName": name, "modelVersion": number, "reason": reason})
        for model in admin.index():
            named = {"modelName": model.name, "modelVersion": model.version}
            if model.ready:
                loaded.append({**named, "modelUrl": str(settings.model_repository / model.name)})
            elif model.name not in state.max_batch_size:  # a recommender's parts are in `failed`
                unavailable.append({**named, "reason": outside(model.reason) or model.state})
        return loaded, unavailable

    @app.get("/models")
    def models() -> Response:
        loaded, unavailable = listed()
        return _json({"models": loaded, "unavailable": unavailable})

    @app.get("/models/<name>")
    def model(name: str) -> Response:
        for loaded in listed()[0]:
            if loaded["modelName"] == name:
                return _json(loaded)
        raise UnknownModel(f"{show(name)} is not served here; GET /models lists the models that are served")

    @app.route("/models", methods=["POST", "DELETE"])
    @app.delete("/models/<name>")
    def off(name: str = "") -> Response:
        raise MethodNotAllowed(MULTI_MODEL_OFF, "GET")


def _target() -> str:
    """The Target-Model header of the request that is being answered, "" without it."""
    return request.headers.get(TARGET_MODEL.decode(), "")


def _asked(body: bytes) -> tuple[str, object]:
    """The fields `model_name` and `url` of a request to load a model. Raises BadRequest."""
    example = 'send {"model_name": "…", "url": "/opt/ml/models/…/model"}'
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON ({error}); {example}") from error
    if not isinstance(document, dict):
        raise BadRequest(f"the body is {show(document)}, not an object; {example}")
    for field in ("model_name", "url"):
        if field not in document:
            raise BadRequest(f"{field} is missing; {example}")
    name = document["model_name"]
    if not isinstance(name, str) or not MODEL_NAME.fullmatch(name):
        raise BadRequest(
            f"model_name is {show(name)}; it must be 1 to 200 letters, digits, '.', '_' and '-', and begin with a "
            "letter or a digit"
        )
    return name, document["url"]


def execution_parameters(settings: Settings) -> dict[str, Any]:
    """The answer of /execution-parameters: how a batch-transform job may send, by its own settings or our defaults.

    The SDK's local mode (SAGEMAKER_BATCH is "True") has other names for the strategies than the platform ("true").
    """
    payload, concurrent = settings.max_payload_mb, settings.max_concurrent_transforms
    if payload is None:
        payload = max(1, min(PAYLOAD_MB, TOTAL_MB // (concurrent or 1)))
    if concurrent is None:  # a payload of 0 means that there is no limit
        concurrent = max(1, min(TOTAL_MB // PAYLOAD_MB, TOTAL_MB // payload)) if payload else 1
    strategy = settings.batch_strategy or "MULTI_RECORD"
    if settings.batch == "True":
        strategy = {"MULTI_RECORD": "MultiRecord", "SINGLE_RECORD": "SingleRecord"}[strategy]
    return {"MaxConcurrentTransforms": concurrent, "BatchStrategy": strategy, "MaxPayloadInMB": payload}


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, content_type="application/json")
