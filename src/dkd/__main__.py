"""``python -m dkd`` is the command ``dkd``."""

import sys
from pathlib import Path

# The command sees no folder of where it runs either: a checkout's docker/ would hide the package.
sys.path[:] = [place for place in sys.path if Path(place).resolve() != Path.cwd()]

from dkd.cli import main  # noqa: E402

main()
