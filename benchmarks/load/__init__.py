"""The load side: its own processes, cheap enough not to be what is measured."""
