"""`serve` as a child process that answers requests on the loopback interface."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from serve.aws_lambda.events import Call, call_of, failure_of, result_of
from serve.errors import ServeError, StartError, Unavailable
from serve.supervisor.child import tied_to_us

HOST = "127.0.0.1"
LOOK_SECONDS = 0.02
SPARE_SECONDS = 0.5  # of an event's time, to send its result
LINES = 3  # of the log that are the reason for an end


class LocalServe:
    """A `serve` with one worker, because a function's environment gets one event at a time."""

    def __init__(self) -> None:
        """Start it; `wait_until_ready` tells when it can answer."""
        with socket.create_server((HOST, 0)) as free:
            self.port = int(free.getsockname()[1])
        own = {"SERVE_BIND_ADDRESS": HOST, "SAGEMAKER_BIND_TO_PORT": str(self.port), "SERVE_WORKERS": "1"}
        command = tied_to_us([sys.executable, "-m", "serve"])
        self._process = subprocess.Popen(command, env=os.environ | own, stderr=subprocess.PIPE)
        self._said: deque[str] = deque(maxlen=LINES)
        self._log = threading.Thread(target=self._pass_on_log, daemon=True)
        self._log.start()
        self._ready = False

    def answer(self, event: Any, context: Any) -> Any:
        """The result for an event. Raises DirectFailure."""
        try:
            call = call_of(event)
            if not self.wait_until_ready(context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS):
                raise Unavailable("the models are not loaded yet")
            status, headers, body = self._ask(call)
        except ServeError as error:
            return failure_of(event, error)
        except StartError as error:
            return failure_of(event, Unavailable(str(error)))
        except (OSError, http.client.HTTPException) as error:
            why = self._how_it_ended() if self.has_ended() else f"the connection to serve broke: {error!r}"
            return failure_of(event, Unavailable(why))
        return result_of(event, status, headers, body)

    def wait_until_ready(self, seconds: float) -> bool:
        """Whether /ping has been 200 within so many seconds, or earlier. Raises StartError if `serve` has ended."""
        end = time.monotonic() + seconds
        while not self._ready:
            if self.has_ended():
                raise StartError(self._how_it_ended())
            if (left := end - time.monotonic()) <= 0:
                return False
            with suppress(OSError, http.client.HTTPException):
                self._ready = self._ask(Call("GET", "/ping", {}, b""), left)[0] == 200
            if not self._ready:
                time.sleep(LOOK_SECONDS)
        return True

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def _ask(self, call: Call, seconds: float | None = None) -> tuple[int, list[tuple[str, str]], bytes]:
        """Raises OSError or HTTPException.

        Every call has a connection of its own: Lambda freezes the processes between events, and a connection that was
        kept open may be closed as idle at the moment it is used again (D138).
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=seconds)
        try:
            connection.request(call.method, call.target, call.body, call.headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _pass_on_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            os.write(2, line)
            self._said.append(line.decode(errors="replace").strip().removeprefix("serve: "))

    def _how_it_ended(self) -> str:
        self._log.join(1)  # its last lines
        return f"serve ended with exit code {self._process.returncode}: {'; '.join(self._said)}"
