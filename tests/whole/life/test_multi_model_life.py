"""What can go wrong at a multi-model endpoint, and what is left of it, also after many loads."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from serve.telemetry.counts import TALLY_FOLDER
from tests.support.endpoint import Endpoint, ask, begun, held, outputs
from tests.support.eventually import eventually
from tests.support.serving import children_of, scratch
from tests.support.small_models import one, write_model

pytestmark = pytest.mark.e2e

LOADS = 25


def memory(pid: int) -> float:
    """The resident memory of a process in MB."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """One endpoint for all tests of this file; the last test stops it."""
    new = Endpoint(tmp_path_factory.mktemp("life"))
    with new.server:
        new.server.wait_until_ready()
        yield new


def test_c079_c080b_e8_e9_target_model(endpoint: Endpoint) -> None:
    for name in ("one", "two"):
        endpoint.archive(name)
    with ThreadPoolExecutor(2) as pool:  # E9: the same archive, uploaded again
        assert [each.status for each in pool.map(endpoint.load, ("one", "two"), ["food.tar.gz"] * 2)] == [200, 200]
    for target, status in (("food.tar.gz", 200), ("", 200), ("fashion.tar.gz", 400), ("one", 400)):
        assert endpoint.invoke("one", target=target).status == status
    refused = endpoint.delete("one", "fashion.tar.gz")
    assert (refused.status, "does not match" in refused.json["error"]) == (400, True)
    assert {"one", "two"} <= set(endpoint.listed())
    assert endpoint.delete("one").status == 200  # C79: without the header it was loaded with
    assert endpoint.delete("two", "food.tar.gz").status == 200


def test_e7_an_unload_lets_calls_finish_and_a_load_waits_for_it(endpoint: Endpoint) -> None:
    busy = endpoint.archive("busy", instances=2)
    assert endpoint.load("busy").status == 200
    with endpoint.connections() as workers, ThreadPoolExecutor(4) as pool, held(busy, "1"), held(busy, "2"):
        path = "/models/busy/invoke"
        calls = [pool.submit(ask, w, "POST", path, one("X", "INT32", x)) for x, (w,) in enumerate(workers, 1)]
        begun(busy, "1")
        begun(busy, "2")
        unload = pool.submit(endpoint.delete, "busy")
        eventually(lambda: "busy" not in endpoint.listed())
        load = pool.submit(endpoint.load, "busy")
        time.sleep(0.3)
        assert not any(each.done() for each in (*calls, unload, load))
        for x in ("1", "2"):
            (busy / f"{x}.held").unlink()
        assert [outputs(call.result()) for call in calls] == [[2], [3]]
        assert (unload.result().status, load.result().status) == (200, 200)
    assert outputs(endpoint.invoke("busy", 1)) == [2]


def test_c068_c069_c024_e11_failures(endpoint: Endpoint) -> None:
    for name in ("starved", "broken", "hungry"):
        version = endpoint.archive(name)
        (version / name).touch()
    (endpoint.root / "broken/model/1/model.py").write_text("import time\nimport no_such_module\n")
    starved = endpoint.load("starved")  # under a limit of the operating system
    assert (starved.status, "MemoryError" in starved.json["error"]) == (507, True)
    broken = endpoint.load("broken")
    assert (broken.status, "No module named 'no_such_module'" in broken.json["error"]) == (400, True)
    assert f"{endpoint.root}/broken/model/1/model.py(2)" in broken.json["error"]
    with endpoint.connections() as workers:
        for (worker,) in workers:
            assert ask(worker, "GET", "/ping").status == 200
            assert ask(worker, "GET", "/models/starved").status == 404
    assert endpoint.load("hungry").status == 200
    assert endpoint.invoke("hungry", 507).status == 507
    assert outputs(endpoint.invoke("hungry", 1)) == [2]
    (endpoint.root / "starved/model/1/starved").unlink()  # there is memory again
    assert endpoint.load("starved").status == 200


def test_c080_loads_that_are_refused(endpoint: Endpoint, tmp_path: Path) -> None:
    before = endpoint.listed()
    write_model("double", tmp_path / "model")
    (endpoint.archive("coded") / "model.py").unlink()  # Triton waits for ever for the process of such a model
    version = endpoint.archive("odd")
    model, root = version.parent, endpoint.root
    (root / "linked").mkdir()
    (root / "linked" / "model").symlink_to(tmp_path / "model")
    endpoint.archive("config")
    (root / "config/model/config.pbtxt").unlink()
    (root / "config/model/config.pbtxt").symlink_to("/etc/passwd")
    urls: list[Any] = [
        "", ".", "/", "relative", f"models/{model}", "/etc", "/dev/shm", "/proc/self/cwd", "/sys", "/dev/fd/0",
        str(root), f"{root}/", f"{root}/..", f"{model}/../../../..", f"{model}/../../../model", str(tmp_path / "model"),
        str(root / "linked" / "model"), str(root / "config" / "model"), str(root / "none" / "model"),
        str(root / "coded" / "model"), str(model / "config.pbtxt"),
        f"file://{model}", f"{model}\0", "x" * 5000, "/x" * 3000, 1, None, True, [], {},
    ]  # fmt: skip
    bodies = [json.dumps({"model_name": "odd", "url": url}).encode() for url in urls]
    names = ["", ".", "..", "../odd", "a/b", "a@b", "-a", "é", "a b", "a\n", "x" * 201, 1, None, [], {}]
    bodies += [json.dumps({"model_name": name, "url": str(model)}).encode() for name in names]
    bodies += [b"", b"{", b"[]", b"null", b"1", b'"x"', b"{}", b"\xff", b"[" * 9000, b'{"model_name": "odd"}']
    for body in bodies:
        answer = endpoint.call("POST", "/models", body)
        assert (body[:200], answer.status) == (body[:200], 400)
        assert set(answer.json) == {"error", "code"}
    assert endpoint.server.ping() == 200
    assert endpoint.listed() == before


def left(endpoint: Endpoint) -> dict[str, Any]:
    """The state of an endpoint: its files, its processes, and what is served.

    The files of the counts are only numbered, because a worker that takes another's place has files of another name.
    """
    folder, *shared = scratch(endpoint.server)
    served = json.loads((folder / "served.json").read_text())
    counts = [*(folder / TALLY_FOLDER).iterdir()]
    files = (path for path in folder.rglob("*") if path not in counts)
    return {
        "files": sorted(str(path) for path in files if path.is_symlink() or path.is_file()),
        "counts": len(counts),
        "shared memory": len(shared),
        "stubs": endpoint.stubs(),
        "served": {key: value for key, value in served.items() if key != "starts"},
    }


def test_a_model_whose_process_died_comes_back(endpoint: Endpoint) -> None:
    endpoint.archive("fragile", instances=2)
    assert endpoint.load("fragile").status == 200
    before = endpoint.stubs("fragile")
    os.kill(min(before), signal.SIGKILL)
    eventually(lambda: len(endpoint.stubs("fragile") - before) == 2)
    eventually(lambda: endpoint.stubs("fragile").isdisjoint(before))
    assert outputs(endpoint.invoke("fragile")) == [2]
    for stub in endpoint.stubs("fragile"):
        os.kill(stub, signal.SIGKILL)
    assert endpoint.invoke("fragile").status in (200, 500)  # after which Triton never unloads it
    assert endpoint.delete("fragile").status == 200
    assert endpoint.stubs("fragile") == set()


def test_many_loads_and_one_that_is_cut_off_leave_nothing(endpoint: Endpoint) -> None:
    def come_and_go(number: int) -> tuple[int, int, int]:
        name = f"n{number % 24}"
        with busy[number % 24]:
            return endpoint.load(name).status, endpoint.invoke(name).status, endpoint.delete(name).status

    for number in range(24):
        endpoint.archive(f"n{number}")
    busy = [threading.Lock() for _ in range(24)]
    version = endpoint.archive("cut")
    for name in endpoint.listed():
        endpoint.delete(name)
    before = left(endpoint)
    assert before["stubs"] == set()
    assert before["served"]["urls"] == before["served"]["loading"] == before["served"]["unloading"] == {}
    with endpoint.connections() as workers, ThreadPoolExecutor(1) as pool, held(version, "loading"):
        first, _ = endpoint.workers
        load = pool.submit(ask, workers[0][0], "POST", "/models", endpoint.wanted("cut"))
        begun(version, "loading")
        os.kill(first, signal.SIGKILL)
        with pytest.raises((OSError, http.client.HTTPException)):
            load.result()
        assert ask(workers[1][0], "GET", "/models/cut").status == 404
        eventually(lambda: len({*endpoint.workers} - {first}) == 2)
        triton = children_of(endpoint.server.process.pid)["tritonserver"]
        sizes = []
        with ThreadPoolExecutor(16) as many:
            for number, statuses in enumerate(many.map(come_and_go, range(LOADS)), 1):
                assert statuses == (200, 200, 200)
                if number % 5 == 0:
                    sizes.append([memory(pid) for pid in (triton, *endpoint.workers)])
        print("resident MB of tritonserver and the workers:", sizes)
        assert all(last < first + 30 for first, last in zip(sizes[0], sizes[-1], strict=True))
        eventually(lambda: left(endpoint) == before)  # whoever waited for it has gone, so its process is killed
    assert endpoint.load("cut").status == 200
    assert outputs(endpoint.invoke("cut")) == [2]


def test_tritonserver_killed_comes_back_with_the_models(endpoint: Endpoint) -> None:
    for name in ("kept", "lost"):
        endpoint.archive(name)
        assert endpoint.load(name, f"{name}.tar.gz").status == 200
    slow = endpoint.archive("interrupted")
    (endpoint.root / "lost/model/1/model.py").write_text("import no_such_module\n")
    with ThreadPoolExecutor(1) as pool, held(slow, "loading"):
        load = pool.submit(endpoint.load, "interrupted")
        begun(slow, "loading")
        os.kill(children_of(endpoint.server.process.pid)["tritonserver"], signal.SIGKILL)
        assert load.result().status == 503
    endpoint.server.wait_until_ready()
    eventually(lambda: "lost" not in endpoint.listed())
    assert outputs(endpoint.invoke("kept")) == [2]
    assert endpoint.invoke("kept", target="other.tar.gz").status == 400
    assert endpoint.load("kept").status == 409
    assert endpoint.invoke("lost").status == endpoint.delete("lost").status == 404
    eventually(lambda: endpoint.load("interrupted").status == 200)


def test_sigterm_while_a_load_hangs(endpoint: Endpoint) -> None:
    """`serve` ends all the same; this is the last test because it stops the endpoint."""
    version = endpoint.archive("stuck")
    folder, *_ = scratch(endpoint.server)
    processes = [endpoint.server.process.pid, *children_of(endpoint.server.process.pid).values(), *endpoint.workers]
    with ThreadPoolExecutor(1) as pool, held(version, "loading"):
        load = pool.submit(endpoint.load, "stuck")
        begun(version, "loading")
        processes += endpoint.stubs()
        began = time.monotonic()
        assert endpoint.server.stop() == 0
        assert time.monotonic() - began < 30
        with suppress(OSError, http.client.HTTPException):
            assert load.result().status == 503
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
    assert not folder.exists()
    assert "Traceback" not in endpoint.server.log.read_text()
