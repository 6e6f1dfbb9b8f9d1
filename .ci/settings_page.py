"""Prints docs/settings.md, made from the table of settings that `serve` itself reads."""

from __future__ import annotations

from serve.settings import SETTINGS

PAGE = """# Settings of serve

`serve` reads its settings from environment variables, once, when it starts. An empty variable counts as not set.
A value that cannot be used ends the start with exit code 2 and one line that names the variable, the value and the
values that are possible (1 for `SAGEMAKER_TRITON_INFERENCE_TYPE`, as in Triton's own container).

This page is made by `python .ci/settings_page.py > docs/settings.md` from the table that `serve` reads.
"""
# Heading, beginning of the variables' names, introduction. The longest beginning that fits decides.
GROUPS = (
    (
        "SageMaker's",
        "SAGEMAKER_",
        "SageMaker sets these itself, for example in a batch transform. Elsewhere they can be set by hand.",
    ),
    ("serve's own", "SERVE_", "These are for whoever runs the container."),
    (
        "Triton's",
        "SAGEMAKER_TRITON_",
        "These are the variables of Triton's own SageMaker container, and they mean the same here.\n"
        "Two defaults differ on purpose: Triton's verbose log is off, and so is the namespacing of models.",
    ),
)


def main() -> None:
    print(PAGE)
    print("\n\n".join(section(*group) for group in GROUPS))


def section(heading: str, prefix: str, introduction: str) -> str:
    rows = ["| variable | default | value | purpose |", "|---|---|---|---|"]
    for setting in SETTINGS:
        if prefix_of(setting.name) == prefix:
            default = f"`{setting.default}`" if setting.default else "not set"
            rows.append(f"| `{setting.name}` | {default} | {setting.expected} | {setting.help} |")
    return "\n".join([f"## {heading}", "", introduction, "", *rows])


def prefix_of(name: str) -> str:
    return max((prefix for _, prefix, _ in GROUPS if name.startswith(prefix)), key=len)


if __name__ == "__main__":
    main()
