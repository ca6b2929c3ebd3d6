"""Outgoing webhooks: the app's own server hears what became of its jobs (J12)."""
