"""Deterministic simulation: a whole cluster of real nodes on one virtual clock, with faults, from one seed.

    loop.py       the event loop: virtual time, one queue a node, a seeded choice between nodes
    ports.py      clock and random numbers of a node
    database.py   one SQLite database in memory, shared by all nodes, behind a line that can be cut
    network.py    the bus between nodes: delays, losses, repetitions, cuts
    agents.py     the lines between nodes and host agents
    node.py       a ManagementNode on these edges: boots, is killed, paused, started again
    faults.py     the fault script of a schedule, as data
    world.py      all of it together, for one schedule
    shrink.py     makes a failing script small

Nothing here knows a service: what is simulated, what is asked of it and what must hold comes from whoever runs it
(``tests/simulation`` for the product's own services).
"""
