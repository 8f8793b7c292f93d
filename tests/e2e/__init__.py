"""The whole node from outside: bad input, fuzzing, failures to boot."""
