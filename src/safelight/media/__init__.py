"""Results from outside, kept for good: fetched through a guarded door, probed, derived, stored, signed, served."""
