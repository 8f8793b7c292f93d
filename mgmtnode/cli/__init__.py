"""``mgmtnode``, the operator's command line."""
