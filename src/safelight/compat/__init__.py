"""Doors for apps that were written against somebody else's API. Each is a folder; none knows the others."""
