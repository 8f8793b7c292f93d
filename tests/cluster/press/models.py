from sqlalchemy import Column, String

from mgmtnode.db.base import resource_table

from .release import RELEASE

COLOUR = (Column("colour", String(32), nullable=False, server_default="white"),) if RELEASE >= 2 else ()

sheet = resource_table("sheet", Column("layers", String(256), nullable=False), *COLOUR)
