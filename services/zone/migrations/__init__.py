"""The revisions of the zone service's tables."""
