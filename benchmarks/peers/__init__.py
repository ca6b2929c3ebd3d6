"""What people use today, minimal but fair, measured in the same run on the same machine."""
