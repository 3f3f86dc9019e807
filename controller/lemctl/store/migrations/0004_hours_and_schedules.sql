-- Hours, schedules and expected times. Campaigns of before have no hours, and probe after their breaker as the default does.
ALTER TABLE runs ADD COLUMN guess_s      REAL;
ALTER TABLE runs ADD COLUMN is_load      INTEGER NOT NULL DEFAULT 0 CHECK (is_load IN (0, 1));
CREATE INDEX runs_experiment ON runs (experiment);
UPDATE campaigns SET document = json_insert(
  document, '$.hours', NULL, '$.schedule', NULL, '$.on_failure', 'continue', '$.breaker.probe_s', 1800.0);

-- When a campaign begins by itself: once, or by a cron expression in a zone (NULL: the host's).
CREATE TABLE schedules (
  id           INTEGER PRIMARY KEY,
  campaign_id  INTEGER NOT NULL REFERENCES campaigns (id),     -- whose plan it begins
  name         TEXT NOT NULL,
  at_utc       TEXT,
  cron         TEXT,
  tz           TEXT,
  created_utc  TEXT NOT NULL,
  ended_utc    TEXT,
  CHECK ((at_utc IS NULL) IS NOT (cron IS NULL))
) STRICT;
CREATE UNIQUE INDEX schedules_one_in_force ON schedules (name) WHERE ended_utc IS NULL;

-- What came of each due time: it is answered once, whatever clocks and daemons do.
CREATE TABLE firings (
  schedule_id  INTEGER NOT NULL REFERENCES schedules (id),
  due_utc      TEXT NOT NULL,
  fired_utc    TEXT NOT NULL,
  campaign_id  INTEGER REFERENCES campaigns (id),              -- what began; NULL: the one before it had not ended
  PRIMARY KEY (schedule_id, due_utc)
) STRICT, WITHOUT ROWID;

