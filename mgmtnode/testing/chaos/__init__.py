"""Lines between the processes of a cluster under test, that can be cut, slowed down and made to lose answers.

A node, a client or an agent is led through a ``Line`` to what it talks to. What is between two processes of one machine
never breaks by itself; here it breaks when it is told to, and as a network does: silently.
"""

from mgmtnode.testing.chaos.lines import Lines
from mgmtnode.testing.chaos.weather import FAIR, Weather

__all__ = ["FAIR", "Lines", "Weather"]
