"""What services say to each other: one pure-data module a domain, none importing another."""
