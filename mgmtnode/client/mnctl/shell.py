"""``mnctl completion``: the script that makes a shell complete commands, options and names of resources."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mgmtnode.client.mnctl.app import Leaf

SHELLS = ("bash", "zsh", "fish")
HOW = {
    "bash": 'eval "$(mnctl completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(mnctl completion zsh)" in ~/.zshrc',
    "fish": "mnctl completion fish > ~/.config/fish/completions/mnctl.fish",
}
EPILOG = "\b\n" + "\n".join(f"{shell}: {line}" for shell, line in HOW.items())


@click.command("completion", cls=Leaf, epilog=EPILOG, help="Print the completion script for a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    from mgmtnode.client.mnctl.main import COMPLETE, root

    found = get_completion_class(shell)
    assert found is not None, "click knows these shells"
    click.echo(found(root, {}, "mnctl", COMPLETE).source())
