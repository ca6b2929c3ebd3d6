"""Who is asking, and what may they do (S6, O4)."""
