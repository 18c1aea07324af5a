"""``python -m dkd`` is the command ``dkd``."""

from dkd.cli import main

main()
