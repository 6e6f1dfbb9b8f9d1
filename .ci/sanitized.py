"""`make test-sanitized`: builds the native backend with AddressSanitizer, and runs its tests on that build.

Only the backend is instrumented, not torch; but all memory comes from AddressSanitizer, so that a wrong access by the
backend ends tritonserver, and with it the tests. Undefined behaviour and libstdc++'s assertions do the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve.triton import native, runtime

ROOT = Path(__file__).parents[1]
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=undefined")
TESTS = ("test_native_backend.py", "test_native_backend_hostile.py")


def main() -> int:
    native.FLAGS = (*native.FLAGS, *SANITIZERS, "-fno-omit-frame-pointer", "-g1", "-D_GLIBCXX_ASSERTIONS")
    runtime.LAID_OUT = ROOT / "build" / "sanitized"
    runtime.main()
    if not native.is_built(runtime.LAID_OUT / "pytorch"):
        return 1
    os.environ |= {  # of tritonserver, which the tests start
        "LD_PRELOAD": " ".join(_library(name) for name in ("libasan.so", "libubsan.so")),
        "ASAN_OPTIONS": "detect_leaks=0:detect_odr_violation=0",  # torch and Triton never free some memory
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "NCF_FUZZ_SECONDS": os.environ.get("NCF_FUZZ_SECONDS", "20"),
    }
    sys.path.insert(0, str(ROOT))
    # One test looks at memory that is given back, which AddressSanitizer keeps.
    tests = [str(ROOT / "tests" / "serve" / "triton" / name) for name in TESTS]
    return int(pytest.main(["-q", "-k", "not gives_its_weights_back", *tests]))


def _library(name: str) -> str:
    return subprocess.run(
        [native.COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
