"""Write what README.md copies from the code: the settings table, and the tree with one line a file."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import click

from serve.settings import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 110
# Files whose purpose cannot be read out of them.
PURPOSES = {
    ".ci/run": "what continuous integration runs",
    ".gitignore": "",
    "CHANGELOG.md": "what changed for a user",
    "CONTRIBUTING.md": "how to work on it",
    "LICENSE": "Apache-2.0",
    "Makefile": "everything a newcomer runs",
    "README.md": "this page",
    "requirements-bench.txt": "what the benchmarks compare with",
    "docs/api.md": "the API of /invocations: asks, formats, mistakes, versions",
    "docs/decisions.md": "why things are as they are",
    "benchmarks/report/README.md": "what `make bench` measured last: plots, tables, raw data beside it",
    "docs/gpu-benchmarks.md": "the same on a machine with a GPU and without a network",
    "benchmarks/rig/wrk.lua": "the requests that wrk sends, and the results that it prints",
    "docs/hosting.md": "what serve promises a platform: contract, limits, shutdown, metrics",
    "docs/flow.svg": "the picture above",
    "docs/log.md": "what was tried and measured, failures too",
    "model_repository/README.md": "what `ncf export` writes there",
    "pyproject.toml": "the package: `ncf`, `train` and `serve` on PATH; tool settings",
    "requirements.txt": "what the product runs on, pinned",
    "requirements-dev.txt": "what tests and lint need beside it",
    ".dockerignore": "",
    "Dockerfile": "the image: one file, a cpu and a gpu target",
    "docs/results.md": "how good the models are: tables, margins, the commands",
    "docs/training.md": "training: exact or sampled, folding, resuming, several processes, large data",
    "docs/training-jobs.md": "the train verb: folders, hyper-parameters, channels, checkpoints, hosts, failures",
    "docs/image.md": "the image: building, running, hardening, what is in it, pushing",
    "requirements-image.txt": "what `make image` needs beside Docker",
    "scripts/ecr_lifecycle.json": "how long images stay in ECR",
    "tests/image/ngc_stand_in/Dockerfile": "what NVIDIA's Triton image looks like to ours",
    "tests/image/ngc_stand_in/entrypoint.sh": "",
    "tests/image/ngc_stand_in/serve": "",
    "tests/image/ngc_stand_in/tritonserver": "",
}


def settings_table() -> str:
    rows = ["| variable | default | what for |", "|---|---|---|"]
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else "–"
        rows.append(f"| `{setting.name}` | {default} | {setting.help} |")
    return "\n".join(rows)


def tree() -> str:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    files = [name for name in listed if name and not name.endswith("__init__.py") and purpose(name)]
    lines, folder = [], ""
    width = max(len(Path(name).name) for name in files) + 2
    for name in sorted(files, key=lambda name: (str(Path(name).parent), name)):
        parent = str(Path(name).parent)
        if parent != folder and parent != ".":
            lines.append(f"    {parent}/")
        folder = parent
        indent = "    " if parent == "." else "      "
        lines.append(f"{indent}{Path(name).name:<{width}}{purpose(name)}")
    return "\n".join(lines)


def purpose(name: str) -> str:
    """The first sentence of a program; short enough for one line of the tree."""
    if name in PURPOSES:
        return PURPOSES[name]
    if name.startswith("benchmarks/report/"):  # its page names all of it
        return ""
    if name.startswith("benchmarks/peers/") and name.endswith(".txt"):
        return shortened((ROOT / name).read_text().splitlines()[0].removeprefix("# "))
    if name.endswith(".sh"):
        comment = re.match(r"#!.*\n# (.+)\n", (ROOT / name).read_text())
        if comment is None:
            raise click.ClickException(f"{name} has no comment in its second line to tell what it is for")
        return shortened(comment[1])
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
    if docstring is None:
        module = Path(name).stem.removeprefix("test_")
        if not Path(name).name.startswith("test_"):
            raise click.ClickException(f"{name} has no docstring to tell what it is for")
        return f"what {module} must do"
    return shortened(re.sub(r"\s*\(https?://[^)]*\)", "", docstring.replace("\n", " ")))


def shortened(text: str) -> str:
    """Its first sentence, or the beginning of that."""
    sentence = re.split(r"\.(?:\s|$)", text, maxsplit=1)[0]
    return sentence if len(sentence) <= LONGEST else re.split(r"[:;,] ", sentence, maxsplit=1)[0]


def updated(text: str) -> str:
    """README.md with both copies made anew."""
    for name, content in (("settings", settings_table()), ("tree", tree())):
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text, flags=re.DOTALL)
    return text


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Write README.md's settings table and tree from the code.

    \b
    Example:
      python scripts/update_readme.py
    """
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text()))
    click.echo(f"wrote {readme}")


if __name__ == "__main__":
    main()
