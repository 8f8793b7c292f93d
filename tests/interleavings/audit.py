"""What must hold in the database, whatever the order: partly noted by triggers as it is committed, the rest read from
the tables. The names are those of the cluster protocol."""

from __future__ import annotations

from collections.abc import Iterator

from mgmtnode.db.tables import OPEN_STATES as OPEN
from tests.interleavings.scene import Tables

TRIGGERS = f"""
CREATE TABLE audit (seq bigserial, what text NOT NULL);

CREATE FUNCTION audit_slot() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.epoch < OLD.epoch OR NEW.epoch = OLD.epoch
     AND (NEW.owner IS DISTINCT FROM OLD.owner OR NEW.incarnation <> OLD.incarnation) THEN
    INSERT INTO audit (what) VALUES (format('I1 slot %s went from %s at %s to %s at %s',
      NEW.slot, OLD.owner, OLD.epoch, NEW.owner, NEW.epoch));
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER audit_slot AFTER UPDATE ON ring_slot FOR EACH ROW EXECUTE FUNCTION audit_slot();

CREATE FUNCTION audit_job() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE mine job; theirs bigint; BEGIN
  SELECT * INTO mine FROM job WHERE uuid = NEW.uuid;
  SELECT epoch INTO theirs FROM ring_slot WHERE slot = NEW.slot;
  IF mine.started_at IS NOT NULL AND mine.fence < theirs THEN
    INSERT INTO audit (what) VALUES (format('I2 job %s is %s under fence %s, its slot is at %s',
      mine.seq, mine.state, mine.fence, theirs));
  END IF;
  IF OLD.state = 'Pending' AND mine.started_at IS NOT NULL AND EXISTS (SELECT FROM job WHERE seq < mine.seq
     AND resource_uuid = mine.resource_uuid AND state IN {OPEN}) THEN
    INSERT INTO audit (what) VALUES (format('I7 job %s begins before an earlier one has ended', mine.seq));
  END IF;
  IF mine.state IN ('Running', 'RollingBack') AND EXISTS (SELECT FROM job WHERE seq <> mine.seq
     AND resource_uuid = mine.resource_uuid AND state IN ('Running', 'RollingBack')) THEN
    INSERT INTO audit (what) VALUES (format('I3 job %s runs beside another one on its resource', mine.seq));
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER audit_job AFTER UPDATE ON job DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION audit_job();

CREATE FUNCTION audit_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit (what) VALUES (format('I4 job %s had ended as %s and was written again', OLD.seq, OLD.state));
  RETURN NULL;
END $$;
CREATE TRIGGER audit_end AFTER UPDATE ON job FOR EACH ROW WHEN (OLD.state NOT IN {OPEN})
  EXECUTE FUNCTION audit_end();
"""

# Each names what is wrong, one row a fault; all of them are one question to the database.
RULES = {
    "I2 job {} runs under fence {}, its slot is at {}": f"""
        SELECT j.seq::text, j.fence::text, s.epoch::text FROM job j JOIN ring_slot s USING (slot)
        WHERE j.state IN {OPEN} AND j.started_at IS NOT NULL AND j.fence <> s.epoch""",
    "I3 {} jobs run on {} at once {}": """
        SELECT count(*)::text, resource_uuid::text, '' FROM job WHERE state IN ('Running', 'RollingBack')
        GROUP BY resource_uuid HAVING count(*) > 1""",
    "I7 job {} has begun before {} on {}": f"""
        SELECT l.seq::text, e.seq::text, l.resource_uuid::text FROM job l JOIN job e USING (resource_uuid)
        WHERE e.seq < l.seq AND e.state IN {OPEN} AND l.started_at IS NOT NULL""",
    "I15 {} is claimed by job {}, which does not run {}": """
        SELECT c.resource_uuid::text, c.job_uuid::text, '' FROM claim c LEFT JOIN job j ON j.uuid = c.job_uuid
        WHERE j.state IS NULL OR j.state NOT IN ('Running', 'RollingBack')""",
    "I15 job {} runs on {} and has no claim {}": """
        SELECT j.seq::text, j.resource_uuid::text, '' FROM job j LEFT JOIN claim c ON c.job_uuid = j.uuid
        WHERE j.state IN ('Running', 'RollingBack') AND c.job_uuid IS NULL""",
    "I8 pool {} says {} are used, {} are held": """
        SELECT p.kind, p.used::text, coalesce(sum(a.amount), 0)::text FROM pool p
        LEFT JOIN allocation a ON a.pool_uuid = p.resource_uuid AND a.kind = p.kind AND a.unit IS NULL
        GROUP BY p.resource_uuid, p.kind, p.used HAVING p.used <> coalesce(sum(a.amount), 0)""",
    "I9 {} of pool {} is held {} times": """
        SELECT unit, pool_uuid::text, count(*)::text FROM allocation WHERE unit IS NOT NULL
        GROUP BY unit, pool_uuid HAVING count(*) > 1""",
    "I12 {} has {} events up to revision {}": """
        SELECT resource_uuid::text, count(*)::text, max(revision)::text FROM event GROUP BY resource_uuid
        HAVING count(*) <> max(revision)""",
    "I12 {} is at revision {} and has {} events": """
        SELECT r.uuid::text, r.revision::text, count(e.seq)::text FROM resource r
        LEFT JOIN event e ON e.resource_uuid = r.uuid GROUP BY r.uuid, r.revision HAVING r.revision <> count(e.seq)""",
    "I14 pool {} holds {} of {}": "SELECT kind, used::text, total::text FROM pool WHERE used > total",
    "I2 job {} has ended {} times, events say {}": f"""
        SELECT j.seq::text, '1', count(e.seq)::text FROM job j LEFT JOIN event e ON e.resource_uuid = j.uuid
        WHERE j.state NOT IN {OPEN} GROUP BY j.seq HAVING count(e.seq) <> 1""",
    "I1 slot {} is {}'s in a life that is not its last ({})": """
        SELECT s.slot::text, s.owner, s.incarnation::text FROM ring_slot s LEFT JOIN mn_node n ON n.name = s.owner
        WHERE n.state IN ('JOINING', 'UP', 'DRAINING') AND n.incarnation <> s.incarnation""",
    "I1 slot {} is left with {}, who is {}": """
        SELECT s.slot::text, s.owner, n.state FROM ring_slot s JOIN mn_node n ON n.name = s.owner
        WHERE n.state IN ('LEFT', 'EVICTED') AND EXISTS (SELECT FROM mn_node WHERE state = 'UP')""",
    "I1 node {} is {} and its lease is {}": """
        SELECT n.name, n.state, coalesce(l.incarnation::text, 'gone') FROM mn_node n LEFT JOIN mn_lease l USING (name)
        WHERE (n.state IN ('JOINING', 'UP', 'DRAINING')) <> (l.name IS NOT NULL AND l.incarnation = n.incarnation)""",
}
# Prepared once: to plan it takes longer than to answer it.
QUESTION = "PREPARE audit AS " + " UNION ALL ".join(
    f"SELECT {n}, q.* FROM ({sql}) q" for n, sql in enumerate(RULES.values())
)


def wrong(tables: Tables) -> Iterator[str]:
    """What does not hold now."""
    for (what,) in tables.rows("SELECT what FROM audit ORDER BY seq"):
        yield what
    said = list(RULES)
    for number, *values in tables.rows("EXECUTE audit"):
        yield said[number].format(*values)
