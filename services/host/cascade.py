"""What a deletion upstream does to hosts."""

from mgmtnode.cascade.graph import OnDelete
from mgmtnode.contracts.host import DeleteHost

CASCADE = (
    OnDelete(
        child="host",
        column="cluster_uuid",
        parent="cluster",
        act=lambda doomed: DeleteHost(uuid=doomed.uuid, force=doomed.force),
    ),
)
