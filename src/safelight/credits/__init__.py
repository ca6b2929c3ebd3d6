"""Credits: a double-entry ledger with holds (C1), and what things cost (C3)."""
