"""What a user would pick instead: each in a virtual environment of its own, spoken to in JSON lines."""
