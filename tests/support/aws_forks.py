"""An `aws` command that starts in a tenth of the time: each call runs in a fork of a process that has imported awscli.

`python -m tests.support.aws_forks SOCKET` is that process. A call sends it its standard streams, words, folder and
environment, and gets the exit code.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

import awscli.clidriver

COMMAND = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({path!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(request)
    sys.exit(connection.recv(1)[0])
"""


def write_command(file: Path, path: Path) -> None:
    """The command that asks the process behind a socket."""
    file.write_text(COMMAND.format(python=sys.executable, path=str(path)))
    file.chmod(0o755)


def main(path: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no process waits for the forks
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                run(connection)
            connection.close()


def run(connection: socket.socket) -> None:
    """One call, after which this process ends."""
    code = 255
    try:
        size, streams, _, _ = socket.recv_fds(connection, 8, 3)
        with connection.makefile("rb") as reader:
            words, folder, environment = json.loads(reader.read(int.from_bytes(size, "big")))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        data = os.environ["AWS_DATA_PATH"]  # awscli sets it when it is imported
        os.environ.clear()
        os.environ.update({**environment, "AWS_DATA_PATH": data})
        sys.argv = ["aws", *words]
        code = awscli.clidriver.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([code]))
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
