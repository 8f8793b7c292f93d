"""Host agents: ordered, fenced commands to the machine that runs the virtual machines."""
