"""Every requirement of the contract on the container has a test with its number in the name and an assertion."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.core

TESTS = Path(__file__).parent.parent
# `c054`, and `c054_to_c056` for all of them.
NUMBER = re.compile(r"_c(\d{3})([a-d]?)(?:_to_c(\d{3}))?(?=_|$)")

# What must be so, and below it what should be. Left out: the image itself, and what a container may do.
MUST = {
    "c003": "SIGTERM reaches serve as process 1",
    "c004": "gone within 30 s of SIGTERM",
    "c007": "unknown variables mean nothing",
    "c008": "the model's folder may be read-only",
    "c009": "the model is in /opt/ml/model before the start",
    "c015": "port 8080, or SAGEMAKER_BIND_TO_PORT instead",
    "c016": "other ports inside SAGEMAKER_SAFE_PORT_RANGE only",
    "c017": "connections accepted within 250 ms, always",
    "c020": "GET /ping is 200 and empty when ready",
    "c021": "a ping takes less than 2 s under load",
    "c022": "no 200 before the model is ready, steadily after it",
    "c023": "no 200 where the model failed or its backend died",
    "c024": "a multi-model endpoint is well without any model",
    "c027": "POST /invocations",
    "c028": "an answer within the platform's time, streams longer",
    "c029": "bodies of 25 MB, 100 MB in batches, 1 GB asynchronously",
    "c030": "KServe-v2 JSON under any content type",
    "c031": "answers in JSON with Triton's fields",
    "c032": "data nested or flat",
    "c033": "an Accept that cannot be met is no failure",
    "c034": "405 for other methods",
    "c035": "400 with an error for what does not fit the model",
    "c038": "one model, whatever Target-Model or model_name say",
    "c041": "any further header is tolerated",
    "c042": "all of SageMaker's own headers are",
    "c046": "tensors behind JSON whose length the type carries",
    "c047": "answers of that type, mixed too",
    "c048": "400 for a type or a length that cannot be",
    "c049": "a JSON part of 0 bytes is one raw tensor",
    "c053": "exactly the default model is loaded",
    "c054": "exit code 1 where it does not exist",
    "c055": "without a default the only model there is",
    "c056": "exit code 1 for a model without its folder",
    "c057": "the stock container's variables",
    "c058": "the workshop's values of them",
    "c060": "an inference type nobody knows is exit code 1",
    "c061": "generate: one document",
    "c062": "generate_stream: events as they come",
    "c064": "multi-model mode starts with nothing loaded",
    "c065": "POST /models loads",
    "c066": "model_name is the key, Target-Model is not",
    "c067": "409 for what is loaded, one of many loads wins",
    "c068": "507 for a load short of memory",
    "c069": "507 for an invocation short of memory",
    "c071": "GET /models lists",
    "c073": "GET /models/M tells of one",
    "c075": "DELETE /models/M frees its memory",
    "c076": "POST /models/M/invoke is like /invocations",
    "c077": "both layouts of an archive",
    "c078": "of several models the ensemble",
    "c079": "no Target-Model is needed anywhere",
    "c080": "400 for a url outside, or a body that is none",
    "c081": "a body of lines gives as many lines in order",
    "c082": "SAGEMAKER_BATCH in any case of letters",
    "c085": "/execution-parameters does no harm",
    "c088": "several containers of one endpoint",
    "c090": "asynchronous calls are ordinary, with raised limits",
    "c091": "nothing is written outside /tmp",
    "c092": "the same as an inference component",
    "c097": "train: exit code 0 is completed, another failed",
    "c098": "train reads the three files of the configuration",
    "c099": "channels are folders, or pipes opened in sequence",
    "c100": "the model in /opt/ml/model, extras in /opt/ml/output/data",
    "c101": "the reason of a failure in /opt/ml/output/failure",
    "c104": "metrics that a regular expression captures",
    "c106": "nothing needed is under /opt/ml",
    "c107": "well within 120 s on port 8080",
    "c108": "the headers of the SDK's local mode",
}
SHOULD = {
    "c005": "SIGTERM finishes what is under way, exit code 0",
    "c010": "no network is needed",
    "c014": "ends soon and says why where nothing can be served",
    "c018": "keep-alive, 100-continue, chunks",
    "c019": "chunks and bodies have limits",
    "c025": "POST and HEAD /ping, too",
    "c026": "SAGEMAKER_TRITON_OVERRIDE_PING_MODE",
    "c036": "400 for what is no JSON",
    "c037": "503 overloaded or stopping, 500 for a model's fault",
    "c039": "gzip",
    "c040": "CSV, JSON Lines, NPY",
    "c043": "Custom-Attributes come back",
    "c044": "and reach the model",
    "c045": "an error fits the 2,048 characters a client sees",
    "c050": "the binary type in other spellings",
    "c051": "Triton's own header for the length",
    "c052": "shared memory is refused",
    "c059": "further words of a value are arguments",
    "c063": "501 for a decoupled model on plain infer",
    "c070": "too little memory is known by its words",
    "c072": "the list in pages",
    "c074": "modelUrl as native gives it",
    "c080b": "400 for another model's Target-Model",
    "c080c": "a slow load holds up nobody",
    "c083": "a batch transform's own settings",
    "c084": "GET /execution-parameters",
    "c086": "a bad record costs its own line",
    "c089": "in a chain the type of the one before is read",
    "c102": "checkpoints in /opt/ml/checkpoints, gone on from",
    "c103": "SIGTERM leaves the best epoch within 120 s",
    "c105": "SM_CHANNEL_TRAIN and SM_MODEL_DIR, --name value",
}


def test_every_number_has_a_test() -> None:
    modules = {path: ast.parse(path.read_text(), str(path)) for path in sorted(TESTS.rglob("*.py"))}
    named = (test.name for path, test in functions_of(modules) if checks(test, path, modules))
    found = {number for name in named for number in numbers(name)}
    missing = {number: words for number, words in (MUST | SHOULD).items() if number not in found}
    assert missing == {}


def test_numbers_are_read_from_names() -> None:
    assert numbers("test_c054_to_c056_and_c080b_with_c7_and_e6_the_c008") == {"c054", "c055", "c056", "c080b", "c008"}
    assert numbers("test_ping_is_200") == set()


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        ("def test(): assert f()", True),
        ("def test():\n with pytest.raises(ValueError): f()", True),
        ("def looks(): assert f()\ndef test(): looks()", True),
        ("def looks(): assert f()\ndef more(): looks()\ndef test(): more()", True),
        ("def test(): f()", False),
        ("def looks(): looks()\ndef test(): looks()", False),
        ("@pytest.mark.skip\ndef test(): assert f()", False),
        ("@pytest.mark.xfail(reason='later')\ndef test(): assert f()", False),
        ("def test():\n pytest.skip()\n assert f()", False),
        ("@pytest.mark.skipif(f())\ndef test(): assert f()", True),
        ("def test():\n if f():\n  pytest.skip()\n assert f()", True),
        ("def test(server): server.wait_until_ready()", False),
    ],
)
def test_a_name_alone_is_no_test(code: str, counts: bool) -> None:
    module = ast.parse(code)
    (test,) = (node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "test")
    assert checks(test, TESTS / "x.py", {TESTS / "x.py": module}) is counts


Modules = dict[Path, ast.Module]


def functions_of(modules: Modules) -> Iterator[tuple[Path, ast.FunctionDef]]:
    """The test functions with their files."""
    for path, module in modules.items():
        if path.name.startswith("test_"):
            for node in ast.walk(module):
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    yield path, node


def checks(test: ast.FunctionDef, path: Path, modules: Modules) -> bool:
    """Whether a test is run, and asserts something, itself or in a function of the tests that it calls."""
    marks = {ast.unparse(mark).partition("(")[0] for mark in test.decorator_list}
    first = {ast.unparse(line).partition("(")[0] for line in test.body}
    if marks & {"pytest.mark.skip", "pytest.mark.xfail"} or first & {"pytest.skip", "pytest.xfail"}:
        return False
    seen, waiting = set[str](), [(test, path)]
    while waiting:
        function, where = waiting.pop()
        for node in ast.walk(function):
            if isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and ast.unparse(node.func) in RAISES):
                return True
            # Methods do not count: almost every test calls one that asserts that the server has started.
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in seen:
                seen.add(node.func.id)
                waiting += definitions(node.func.id, where, modules)
    return False


RAISES = ("pytest.raises", "pytest.fail")


def definitions(name: str, path: Path, modules: Modules) -> list[tuple[ast.FunctionDef, Path]]:
    """The function of a file that has a name, defined there or imported from another file of the tests."""
    found = []
    for node in modules[path].body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            found.append((node, path))
        elif isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
            source = TESTS.parent / Path(*str(node.module).split(".")).with_suffix(".py")
            if source in modules:
                found += definitions(name, source, modules)
    return found


def numbers(name: str) -> set[str]:
    """The numbers that a test's name has."""
    found = set()
    for first, letter, last in NUMBER.findall(name):
        found |= {f"c{number:03}{letter}" for number in range(int(first), int(last or first) + 1)}
    return found
