"""Make `import safelight` and the `safelight` command work from this checkout, without a build step.

Writes a .pth file and a console script into the running environment; running it twice is fine.
"""

from __future__ import annotations

import stat
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """#!{python}
import sys
from safelight.cli.main import app
sys.exit(app())
"""


def main() -> None:
    Path(sysconfig.get_path("purelib"), "safelight.pth").write_text(f"{ROOT / 'src'}\n")
    script = Path(sysconfig.get_path("scripts"), "safelight")
    script.write_text(SCRIPT.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    main()
