from sqlalchemy import Column, String

from mgmtnode.db.base import resource_table

zone = resource_table("zone", Column("state", String(16), nullable=False))
