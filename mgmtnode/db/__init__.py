"""The database: the truth. SQLAlchemy Core behind one port, on SQLite or PostgreSQL."""
