"""Settings: global properties (one file, per node), global configs (database, whole cloud)."""
