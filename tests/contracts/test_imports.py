"""The directions of the house: who may import what, read from the imports themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Triton's stub runs these in a process of its own; nothing of `serve` imports them.
BACKENDS = ROOT / "serve" / "triton" / "backends"

# What only the named modules may import: one room for one outside world.
ROOMS = {
    "flask": {"serve.worker.control_plane"},
    "werkzeug": {"serve.worker.control_plane"},
    "gunicorn": {"serve.worker.gunicorn_worker"},
    "uvloop": {"serve.worker.gunicorn_worker"},
    "prometheus_client": {"serve.telemetry.prometheus"},
    "httptools": {"serve.http1.reader", "serve.triton.pool", "serve.triton.stream"},
    "tritonclient": {"serve.triton.admin", "serve.triton.model_config", "ncf.export.repository"},
    "subprocess": {"ncf.job.launch", "serve.supervisor.child", "serve.supervisor.supervisor", "serve.triton.runtime"},
    "click": {
        "ncf.commands.main",
        "ncf.commands.prepare",
        "ncf.commands.train",
        "ncf.commands.evaluate",
        "serve.supervisor.command",
    },
    "rich": {"ncf.commands.evaluate", "ncf.commands.prepare", "ncf.training.progress"},
    "polars": {
        "ncf.data.interactions",
        "ncf.data.values",
        "ncf.data.stream",
        "ncf.data.splits",
        "ncf.data.prepare",
        "ncf.data.prepared",
        "ncf.job.tables",
        "ncf.training.run_directory",
        "ncf.export.id_file",
        "ncf.data.sample",
        "ncf.data.item_columns",
    },
    "matplotlib": {"ncf.evaluation.plots"},
    "ncf.evaluation.plots": {"ncf.evaluation.page"},
    "ncf.export.export": {"ncf.commands.main", "ncf.job.result"},
    "ncf.export.repository": {
        "ncf.export.export",
        "ncf.job.settings",
        "ncf.export.serving_settings",
        "ncf.commands.main",
    },
    "ncf.job.result": {"ncf.job.job"},
    "ncf.job.launch": {"ncf.job.job"},
    "ncf.job.job": {"ncf.commands.main"},
    "serve.supervisor.child": {
        "serve.supervisor.supervisor",
        "serve.supervisor.ports",
        "serve.models.hosted",
        "serve.supervisor.scratch",
    },
    "serve.supervisor.command": {"serve.__main__"},
    "serve.supervisor.supervisor": {"serve.supervisor.command"},
    "serve.triton.runtime": {"serve.supervisor.supervisor", "serve.supervisor.scratch"},
    "serve.supervisor.scratch": {"serve.supervisor.supervisor"},
    "serve.models.preflight": {"serve.models.hosted"},
    "serve.worker.application": {"serve.worker.gunicorn_worker"},
    "serve.worker.control_plane": {"serve.worker.application"},
    "serve.worker.invocations": {"serve.worker.application"},
    "serve.worker.pass_through": {"serve.worker.invocations"},
    "serve.worker.recommendations": {"serve.worker.invocations", "serve.worker.pass_through"},
    "serve.models.multi_model": {"serve.worker.control_plane", "serve.models.hosted"},
    "serve.models.archives": {"serve.models.multi_model"},
    "serve.processes": {"serve.models.multi_model"},
    "serve.models.rollout": {"serve.models.hosted"},
    "serve.models.hosted": {"serve.supervisor.supervisor"},
}
# Pure modules: no I/O of any kind, and nothing that drags one in.
PURE = {
    "ncf.models.neural",
    "ncf.export.modules",
    "ncf.evaluation.metrics",
    "ncf.models.closed_form",
    "ncf.evaluation.baselines",
    "ncf.models.seen",
    "ncf.export.triton_config",
    "ncf.export.query",
    "ncf.models.fold_in",
    "serve.formats.registry",
    "serve.http1.accept",
    "serve.http1.compression",
    "serve.recommend.asks",
    "serve.formats.json_format",
    "serve.formats.kserve",
    "serve.formats.slices",
    "serve.formats.slice_answers",
    "serve.formats.tables",
    "serve.formats.csv_rows",
    "serve.formats.npy_format",
    "serve.recommend.plan",
    "serve.recommend.parse",
    "serve.formats.csv_format",
    "serve.triton.tensors",
}
OUTSIDE_WORLDS = {"os", "asyncio", "socket", "http", "urllib", "flask", "httptools", "tritonclient", "subprocess"}


def modules() -> dict[str, Path]:
    found = {}
    for package in ("ncf", "serve"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if BACKENDS not in path.parents:
                found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide directions"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def uses(names: set[str], target: str) -> bool:
    return any(name == target or name.startswith(target + ".") for name in names)


@pytest.mark.parametrize("module", modules())
def test_ncf_and_serve_never_import_each_other_and_serve_never_torch(module: str) -> None:
    names = imports(modules()[module])
    for other in ("serve", "pytriton") if module.startswith("ncf") else ("ncf", "torch", "pytriton"):
        assert not uses(names, other), f"{module} imports {other}"


@pytest.mark.parametrize("room", ROOMS)
def test_one_room_for_one_outside_world(room: str) -> None:
    users = {module for module, path in modules().items() if uses(imports(path), room)}
    assert users == ROOMS[room]


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_do_no_io(module: str) -> None:
    names = imports(modules()[module])
    for world in OUTSIDE_WORLDS:
        assert not uses(names, world), f"{module} imports {world}"


def test_torchscript_is_known_in_one_room_only() -> None:
    assert [name for name, path in modules().items() if "torch.jit" in path.read_text()] == ["ncf.export.export"]


@pytest.mark.parametrize("module", modules())
def test_nothing_happens_at_import(module: str) -> None:
    """At module level: definitions, constants, imports; no call that reads the environment or configures logging."""
    tree = ast.parse(modules()[module].read_text())
    for node in tree.body:
        if isinstance(node, ast.If):  # if __name__ == "__main__"
            assert ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING")
            continue
        if isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant), f"{module} does something at import: {ast.unparse(node)}"
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            text = ast.unparse(node.value)
            for forbidden in ("os.environ", "getenv", "basicConfig", "open("):
                assert forbidden not in text, f"{module}: {text}"
