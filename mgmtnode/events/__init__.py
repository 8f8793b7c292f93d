"""Events: facts about resources, logged with the transaction that made them so."""
