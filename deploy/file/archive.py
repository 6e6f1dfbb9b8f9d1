"""A model archive on this machine: whether SageMaker can unpack it, its key in S3 by its content, and its unpacking."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from deploy.errors import UserError, brief

CHUNK = 1 << 20
MAX_MEMBERS = 100_000
OWNER_WRITES, ANYBODY_WRITES = 0o200, 0o222


def uploads_of(models: list[str], folder: Path, uploads: str | None) -> dict[str, str]:
    """The S3 URI of each local archive: under `uploads`, by its SHA-256, so that the same content is the same key."""
    return {model: f"{str(uploads).rstrip('/')}/{digest(folder / model)}/{Path(model).name}" for model in models}


def digest(path: Path) -> str:
    """The SHA-256 of a file. Raises UserError if it cannot be read."""
    try:
        with path.open("rb") as file:
            total = hashlib.sha256()
            while chunk := file.read(CHUNK):
                total.update(chunk)
    except OSError as error:
        raise UserError(f"model {path} cannot be read: {error.strerror}; scripts/package_model.sh makes one") from error
    return total.hexdigest()


def check(path: Path, is_of_triton: bool = True) -> None:
    """Refuse what an endpoint cannot unpack or serve.

    `is_of_triton`: each model must be in a folder of its own, as `serve` needs it at its start. Raises UserError.
    """
    found = False
    try:
        with tarfile.open(path, "r:gz") as archive:
            for number, member in enumerate(archive):
                name = PurePosixPath(member.name)
                if number >= MAX_MEMBERS:
                    raise UserError(f"{path} has more than {MAX_MEMBERS:,} files; is it a model archive?")
                target = name.parent / member.linkname if member.issym() else PurePosixPath(member.linkname)
                if _leaves(name) or ((member.issym() or member.islnk()) and _leaves(target)):
                    raise UserError(
                        f"{path} would be unpacked outside its folder by {brief(member.name)}; "
                        "make it anew with scripts/package_model.sh"
                    )
                if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
                    raise UserError(f"{path} has a device or pipe, {brief(member.name)}; an archive has files alone")
                depth = len(name.parts)
                found = found or (name.name == "config.pbtxt" and depth > 1)
                if is_of_triton and name.name == "config.pbtxt" and depth == 1:
                    raise UserError(
                        f"{path} has config.pbtxt at its top; a single-model endpoint needs NAME/config.pbtxt "
                        "(scripts/package_model.sh model_repository/NAME)"
                    )
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"model {path} is no readable .tar.gz: {brief(reason)}; scripts/package_model.sh makes one"
        ) from error
    if is_of_triton and not found:
        raise UserError(f"{path} holds no NAME/config.pbtxt; scripts/package_model.sh packs a model of a repository")


def _leaves(path: PurePosixPath) -> bool:
    """Whether a path leads out of the folder in which the archive is unpacked."""
    depth = 0
    for part in path.parts:
        depth += -1 if part == ".." else 0 if part == "." else 1
        if depth < 0:
            return True
    return path.is_absolute()


def unpack(path: Path, to: Path) -> None:
    """Unpack a checked archive into a folder, which nobody may write then, as on an endpoint. Raises OSError."""
    with tarfile.open(path, "r:gz") as packed:
        packed.extractall(to, filter="data")
    for part in [to, *to.rglob("*")]:
        if not part.is_symlink():
            part.chmod(part.stat().st_mode & ~ANYBODY_WRITES)


def remove(folder: Path) -> None:
    """Remove a folder that this process made, with its parts that nobody may write; it need not exist."""
    for part in [folder, *folder.rglob("*")] if folder.exists() else ():
        if part.is_dir() and not part.is_symlink():
            part.chmod(part.stat().st_mode | OWNER_WRITES)
    shutil.rmtree(folder, ignore_errors=True)
