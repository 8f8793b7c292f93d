"""What the nodes of a cluster know together besides the database: counters and announcements, over Redis, if there is
one. Nothing rests on it for being right."""
