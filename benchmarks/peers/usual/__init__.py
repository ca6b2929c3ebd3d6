"""The usual stack: FastAPI -> Celery on Redis -> one row in PostgreSQL -> python-socketio through Redis.

No signature, no media, no credits, no log: less work than Safelight does for the same webhook.
"""
