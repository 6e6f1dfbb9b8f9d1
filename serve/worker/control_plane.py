"""The control plane: Flask, for everything that is not a request for inference."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Any

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from serve.errors import BadRequest, MethodNotAllowed, ServeError, UnknownModel, show
from serve.models.multi_model import MultiModel, unknown
from serve.models.served import ServedFile
from serve.models.view import View
from serve.settings import Settings
from serve.triton.admin import TritonAdmin
from serve.worker.batch_transform import execution_parameters
from serve.worker.openapi import openapi_document

TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"
# It becomes the name of a folder, and with another model's name behind it of further ones.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
MODELS_PER_PAGE = 1000
MULTI_MODEL_OFF = "multi-model mode is off; SAGEMAKER_MULTI_MODEL=true turns it on"


def create_control_plane(settings: Settings, served: ServedFile, admin: TritonAdmin) -> Flask:
    """The Flask application of one worker."""
    app = Flask("serve", static_folder=None)
    app.config["PROPAGATE_EXCEPTIONS"] = True  # a bug is logged and answered by Application, as in the data plane
    app.url_map.merge_slashes = False  # a redirect would lead where the caller's Host says
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

    @app.get("/openapi.json")
    def openapi() -> Response:
        return _json(openapi_document(settings))

    @app.errorhandler(ServeError)
    def serve_error(error: ServeError) -> Response:
        response = _json({"error": str(error), "code": error.code}, error.status)
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = error.allow
        return response

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
    """SageMaker's contract of a multi-model container."""

    @app.post("/models")
    def load() -> Response:
        name, url = _asked(request.get_data())
        models.load(admin, name, url, request.headers.get(TARGET_MODEL, ""))
        return Response(status=200, content_type="text/plain")

    @app.get("/models")
    def loaded() -> Response:
        """The loaded models by name, from the one after `next_page_token`."""
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
        models.unload(admin, name, request.headers.get(TARGET_MODEL, ""))
        return Response(status=200, content_type="text/plain")


def _add_single_model(app: Flask, settings: Settings, served: ServedFile, admin: TritonAdmin) -> None:
    """What is served is what the repository holds: it can be looked at."""
    outside = View(settings.model_repository.absolute(), served.view).as_seen_outside

    def listed() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """What Triton has loaded, and apart from it what it could not load and why."""
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
            elif model.name not in state.max_batch_size:  # of recommenders' parts the reason is above
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
        raise UnknownModel(f"{show(name)} is not served here; GET /models lists what is")

    @app.route("/models", methods=["POST", "DELETE"])
    @app.delete("/models/<name>")
    def off(name: str = "") -> Response:
        raise MethodNotAllowed(MULTI_MODEL_OFF, "GET")


def _asked(body: bytes) -> tuple[str, object]:
    """`model_name` and `url` of a request to load a model. Raises BadRequest."""
    example = 'send {"model_name": "…", "url": "/opt/ml/models/…/model"}'
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is no JSON ({error}); {example}") from error
    if not isinstance(document, dict):
        raise BadRequest(f"the body is {show(document)}, no object; {example}")
    for field in ("model_name", "url"):
        if field not in document:
            raise BadRequest(f"{field} is missing; {example}")
    name = document["model_name"]
    if not isinstance(name, str) or not MODEL_NAME.fullmatch(name):
        raise BadRequest(
            f"model_name is {show(name)}; it must be 1 to 200 letters, digits, '.', '_' and '-', no sign first"
        )
    return name, document["url"]


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, content_type="application/json")
