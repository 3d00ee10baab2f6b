"""A host of the fleet: what it has, what keeps it in the fleet, and what it must not keep running."""
