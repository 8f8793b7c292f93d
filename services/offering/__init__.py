"""Instance offerings."""
