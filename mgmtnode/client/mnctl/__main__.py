"""``python -m mgmtnode.client.mnctl``: the same as the installed command."""

from mgmtnode.client.mnctl.main import main

main()
