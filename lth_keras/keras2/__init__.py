"""keras2."""
