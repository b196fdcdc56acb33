"""Runs the Python of README files, each in a namespace and a folder of its own.

Started by `test_new_plugins.py` in an environment of its own; prints the names of those that ran.
"""

import os
import re
import runpy
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

for readme in map(Path, sys.argv[1:]):
    blocks = re.findall(r"^```python\n(.*?)^```$", readme.read_text(), re.DOTALL | re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for at, block in enumerate(blocks):
            Path(f"block{at}.py").write_text(block)
            with redirect_stdout(sys.stderr):
                runpy.run_path(f"block{at}.py", run_name="__main__")
        os.chdir("/")
    if blocks:
        sys.stdout.write(f"{readme.parent.name}\n")
