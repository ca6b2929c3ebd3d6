"""The command `safelight` (K2). Each family of commands is a file; heavy imports happen inside the commands."""
