"""The library: what was made, and how it is arranged (M, U2-U5)."""
