"""All that a database's schema is made of, a line each, for comparing what revisions make with what models declare."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, inspect, text

from mgmtnode.db.migrate import quiet

SQLITE = (
    """select 'column ' || m.name || '.' || c.name || ' ' || c.type || ' not null ' || c."notnull" || ' default '
    || coalesce(c.dflt_value, '-') || ' key ' || c.pk from sqlite_master m, pragma_table_xinfo(m.name) c
    where m.type = 'table'""",
    """select 'reference ' || m.name || '.' || f."from" || ' to ' || f."table" || '.' || f."to" || ' on delete '
    || f.on_delete from sqlite_master m, pragma_foreign_key_list(m.name) f where m.type = 'table'""",
    "select type || ' ' || sql from sqlite_master where type in ('index', 'trigger', 'view') and sql is not null",
    "select 'autoincrement ' || name from sqlite_master where sql like '%autoincrement%'",
)
POSTGRESQL = (
    """select concat_ws(' ', 'column', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
    a.attcollation::regcollation, 'not null', a.attnotnull, 'default', pg_get_expr(d.adbin, d.adrelid), a.attidentity,
    col_description(a.attrelid, a.attnum))
    from pg_attribute a join pg_class c on c.oid = a.attrelid and c.relkind = 'r'
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where c.relnamespace = current_schema::regnamespace and a.attnum > 0 and not a.attisdropped""",
    """select concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid)) from pg_constraint
    where connamespace = current_schema::regnamespace""",
    "select 'index ' || indexdef from pg_indexes where schemaname = current_schema",
    "select 'trigger ' || pg_get_triggerdef(oid) from pg_trigger where not tgisinternal",
    """select 'function ' || pg_get_functiondef(oid) from pg_proc
    where pronamespace = current_schema::regnamespace and prokind = 'f'""",
)


def fingerprint(engine: Engine) -> set[str]:
    """Without Alembic's own table, and without the order of columns, which an added one changes."""
    with quiet(), engine.connect() as connection:
        queries = SQLITE if engine.dialect.name == "sqlite" else POSTGRESQL
        lines = {
            " ".join(str(line).split())
            for query in queries
            for line in connection.execute(text(query)).scalars()
        }
        if engine.dialect.name == "sqlite":
            lines |= _constraints(connection)
    return {line for line in lines if "alembic_version" not in line}


def _constraints(connection: Connection) -> set[str]:
    """What SQLite keeps only in the text of CREATE TABLE."""
    inspector, lines = inspect(connection), set[str]()
    for table in inspector.get_table_names():
        checks, uniques = inspector.get_check_constraints(table), inspector.get_unique_constraints(table)
        lines |= {f"check {table} {check['name']} {check['sqltext']}" for check in checks}
        lines |= {f"unique {table} {unique['name']} {unique['column_names']}" for unique in uniques}
    return lines
