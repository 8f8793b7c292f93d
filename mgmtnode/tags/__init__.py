"""Tags: system tags are declared by a service and mean something to it; user tags are free text."""
