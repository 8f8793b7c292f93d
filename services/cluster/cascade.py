"""What a deletion upstream does to clusters."""

from mgmtnode.cascade.graph import OnDelete
from mgmtnode.contracts.cluster import DeleteCluster

CASCADE = (
    OnDelete(
        child="cluster",
        column="zone_uuid",
        parent="zone",
        act=lambda doomed: DeleteCluster(uuid=doomed.uuid, force=doomed.force),
    ),
)
