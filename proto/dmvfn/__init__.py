"""Our own contract, by version."""
