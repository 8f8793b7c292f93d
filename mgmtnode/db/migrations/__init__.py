"""The core's revisions: the branch that every service's branch stands on."""
