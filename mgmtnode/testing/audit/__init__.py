"""Whether a cloud kept its promises: the invariants of the cluster protocol, checked from outside of the nodes.

``books`` reads what the database and the hosts hold once nothing is going on; ``trail`` what happened to jobs and
slots, commit by commit; ``history`` what hosts were told. Each check yields what is wrong, one sentence a finding,
beginning with the invariant's number; none means that it holds.
"""
