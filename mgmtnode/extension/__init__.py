"""Extension points: how a plugin takes part in what another service does."""
