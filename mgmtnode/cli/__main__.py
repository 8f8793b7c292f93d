"""``python -m mgmtnode.cli``: the same as the installed command."""

from mgmtnode.cli.main import main

main()
