"""Runs inside an image: what lies there that should not."""

import json
import os
import shutil
import stat
from pathlib import Path

# A program that is not needed is one that an intruder would be glad of.
UNWANTED = "apt apt-get cc curl dpkg gcc git make mount perl pip pip3 su wget"

found = {
    "unwanted": [name for name in UNWANTED.split() if shutil.which(name)],
    "opt_ml": Path("/opt/ml").exists(),
    "driver": [],
    "setuid": [],
    "writable": [],
}
for folder, names, files in os.walk("/"):
    names[:] = [name for name in names if f"{folder}{name}" not in ("/proc", "/sys", "/dev")]
    for name in names + files:
        path = str(Path(folder, name))
        mode = os.lstat(path).st_mode
        if name.startswith(("libcuda.so", "libnvidia-")):
            found["driver"].append(path)
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            found["setuid"].append(path)
        if not stat.S_ISLNK(mode) and mode & stat.S_IWOTH:
            found["writable"].append(path)
print(json.dumps(found))
