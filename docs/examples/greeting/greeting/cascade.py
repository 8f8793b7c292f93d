"""What becomes of greetings when their zone is deleted."""

from greeting.contract import DeleteGreeting
from mgmtnode.cascade.graph import OnDelete

CASCADE = (
    OnDelete(
        child="greeting",
        column="zone_uuid",
        parent="zone",
        act=lambda doomed: DeleteGreeting(uuid=doomed.uuid, force=doomed.force),
    ),
)
