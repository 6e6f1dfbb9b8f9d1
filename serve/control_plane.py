"""The control plane: Flask, for everything that is not a request for inference."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from serve.errors import ServeError
from serve.openapi import openapi_document
from serve.served import ServedFile
from serve.settings import Settings
from serve.triton_admin import TritonAdmin
from serve.view import View

MAX_PAYLOAD_MB = 6
# SageMaker wants MaxConcurrentTransforms × MaxPayloadInMB <= 100.
MAX_CONCURRENT_TRANSFORMS = 100 // MAX_PAYLOAD_MB


def create_control_plane(settings: Settings, served: ServedFile, admin: TritonAdmin) -> Flask:
    """The Flask application of one worker."""
    app = Flask("serve", static_folder=None)
    outside = View(settings.model_repository.absolute(), served.view).as_seen_outside

    @app.get("/models")
    def models() -> Response:
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
        return _json({"models": loaded, "unavailable": unavailable})

    @app.get("/execution-parameters")
    def execution_parameters() -> Response:
        """What a batch-transform job may send. SageMaker's local mode (SAGEMAKER_BATCH is "True") reads the strategy
        in another spelling than the platform ("true")."""
        strategy = "MultiRecord" if settings.batch == "True" else "MULTI_RECORD"
        return _json(
            {
                "MaxConcurrentTransforms": MAX_CONCURRENT_TRANSFORMS,
                "BatchStrategy": strategy,
                "MaxPayloadInMB": MAX_PAYLOAD_MB,
            }
        )

    @app.get("/openapi.json")
    def openapi() -> Response:
        return _json(openapi_document(settings))

    @app.errorhandler(ServeError)
    def serve_error(error: ServeError) -> Response:
        return _json({"error": str(error), "code": error.code}, error.status)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        if error.code == 404:
            message = "there is no such path; requests go to /invocations"
        else:
            message = error.description or error.name
        response = _json({"error": message, "code": error.name.lower().replace(" ", "_")}, error.code or 500)
        allowed = getattr(error, "valid_methods", None)
        if allowed:
            response.headers["Allow"] = ", ".join(sorted(allowed))
        return response

    return app


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, content_type="application/json")
