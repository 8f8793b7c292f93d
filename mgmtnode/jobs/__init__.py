"""Jobs: every mutation is a committed row before anybody hears of it, and ends exactly once."""
