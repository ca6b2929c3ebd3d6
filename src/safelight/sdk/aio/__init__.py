"""The async client. `blocking` is made from this folder."""
