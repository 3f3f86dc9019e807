-- The state of lemctl. This file is the specification: the invariants stand here, not in code.
-- Times: *_utc ISO 8601 text with Z, *_mono_ns nanoseconds on the boot named beside them.

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE campaigns (
  id           INTEGER PRIMARY KEY,
  uuid         TEXT NOT NULL UNIQUE,
  host         TEXT NOT NULL,
  name         TEXT NOT NULL,
  number       INTEGER NOT NULL CHECK (number >= 1),          -- counts the campaigns of this name
  plan_hash    TEXT NOT NULL,
  document     TEXT NOT NULL CHECK (json_valid(document)),    -- normalised campaign file
  source       TEXT NOT NULL,                                 -- the file as it was written
  executor     TEXT NOT NULL CHECK (executor IN ('docker', 'local', 'simulate')),
  priority     INTEGER NOT NULL DEFAULT 0,
  after_id     INTEGER REFERENCES campaigns (id),
  status       TEXT NOT NULL CHECK (status IN ('Waiting', 'Active', 'Paused', 'Stopped', 'Finished', 'Cancelled')),
  status_data  TEXT NOT NULL CHECK (json_extract(status_data, '$.kind') IS status),
  created_utc  TEXT NOT NULL,
  ended_utc    TEXT,
  UNIQUE (name, number)
) STRICT;
-- One unfinished campaign of a name: `start` attaches to it.
CREATE UNIQUE INDEX campaigns_one_open ON campaigns (name) WHERE status IN ('Waiting', 'Active', 'Paused', 'Stopped');

CREATE TABLE experiments (
  hash     TEXT PRIMARY KEY,
  backend  TEXT NOT NULL,
  model    TEXT NOT NULL,
  spec     TEXT NOT NULL CHECK (json_valid(spec))
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
  id           INTEGER PRIMARY KEY,
  campaign_id  INTEGER NOT NULL REFERENCES campaigns (id),
  experiment   TEXT NOT NULL REFERENCES experiments (hash),
  cycle        INTEGER NOT NULL CHECK (cycle >= 1),
  position     INTEGER NOT NULL,                               -- order in the queue
  axes         TEXT NOT NULL CHECK (json_valid(axes)),         -- swept keys, for tables
  status       TEXT NOT NULL CHECK (status IN
                 ('Queued', 'Starting', 'Cooling', 'Running', 'Done', 'Failed', 'Skipped', 'Cancelled')),
  status_data  TEXT NOT NULL CHECK (json_extract(status_data, '$.kind') IS status),
  not_before_utc TEXT GENERATED ALWAYS AS (json_extract(status_data, '$.not_before_utc')) VIRTUAL,
  guess_s      REAL,                                           -- stated guess of its length, without loading an engine
  is_load      INTEGER NOT NULL DEFAULT 0 CHECK (is_load IN (0, 1)), -- the plan loads an engine for it
  UNIQUE (campaign_id, experiment, cycle)
) STRICT;
CREATE INDEX runs_queue ON runs (campaign_id, status, position);
CREATE INDEX runs_experiment ON runs (experiment);
CREATE INDEX runs_active ON runs (status) WHERE status IN ('Starting', 'Cooling', 'Running');

CREATE TABLE sessions (
  id             INTEGER PRIMARY KEY,
  uuid           TEXT NOT NULL UNIQUE,
  host           TEXT NOT NULL,
  lane           TEXT NOT NULL,
  backend        TEXT NOT NULL,
  executor       TEXT NOT NULL,
  isolation      TEXT NOT NULL,
  engine_key     TEXT NOT NULL,
  engine         TEXT NOT NULL CHECK (json_valid(engine)),     -- what the key was made of
  container_id   TEXT,
  image_digest   TEXT,
  hello          TEXT CHECK (hello IS NULL OR json_valid(hello)),
  started_utc    TEXT NOT NULL,
  boot_id        TEXT NOT NULL,
  ended_utc      TEXT,
  end_reason     TEXT
) STRICT;

CREATE TABLE environments (
  hash      TEXT PRIMARY KEY,
  kind      TEXT NOT NULL CHECK (kind IN ('host', 'container', 'project')),
  document  TEXT NOT NULL CHECK (json_valid(document)),
  first_utc TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
  id             INTEGER PRIMARY KEY,
  uuid           TEXT NOT NULL UNIQUE,
  host           TEXT NOT NULL,
  run_id         INTEGER NOT NULL REFERENCES runs (id),
  number         INTEGER NOT NULL CHECK (number >= 1),         -- counts the attempts of this run
  lane           TEXT NOT NULL,
  session_id     INTEGER REFERENCES sessions (id),
  boot_id        TEXT NOT NULL,
  started_utc    TEXT NOT NULL,
  started_mono_ns INTEGER NOT NULL,
  ended_utc      TEXT,
  ended_mono_ns  INTEGER,
  outcome        TEXT CHECK (outcome IN ('ok', 'failed', 'interrupted', 'cancelled')),
  fault          TEXT CHECK (fault IN ('oom_gpu', 'oom_host', 'engine_error', 'bad_request', 'bad_result', 'silent',
                                       'timed_out', 'infra', 'contaminated', 'gpu_lost', 'invalid')),
  message        TEXT,
  detail         TEXT,
  verdict        TEXT CHECK (verdict IN ('VALID', 'SUSPECT', 'INVALID')),
  facts          TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(facts)), -- engine reused, gate, baselines, effective, log offsets
  environment    TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(environment)), -- kind -> hash of environments
  UNIQUE (run_id, number),
  CHECK ((outcome = 'failed') = (fault IS NOT NULL)),
  CHECK ((outcome IS NULL) = (ended_utc IS NULL)),
  CHECK (outcome IS NOT 'ok' OR coalesce(verdict, '') IN ('VALID', 'SUSPECT'))
) STRICT;
-- At most one active attempt on a lane and one of a run; a run succeeds at most once.
CREATE UNIQUE INDEX attempts_one_per_lane ON attempts (lane) WHERE outcome IS NULL;
CREATE UNIQUE INDEX attempts_one_per_run ON attempts (run_id) WHERE outcome IS NULL;
CREATE UNIQUE INDEX attempts_one_result ON attempts (run_id) WHERE outcome = 'ok';

CREATE TABLE windows (
  attempt_id    INTEGER NOT NULL REFERENCES attempts (id),
  window        INTEGER NOT NULL,
  t_begin_mono_ns INTEGER NOT NULL,
  t_end_mono_ns INTEGER NOT NULL CHECK (t_end_mono_ns > t_begin_mono_ns),
  batches       INTEGER NOT NULL,
  requests      INTEGER NOT NULL,
  tokens_in     INTEGER NOT NULL,
  tokens_out    INTEGER NOT NULL,
  PRIMARY KEY (attempt_id, window)
) STRICT, WITHOUT ROWID;

CREATE TABLE metrics (
  attempt_id  INTEGER NOT NULL REFERENCES attempts (id),
  name        TEXT NOT NULL,
  value       REAL,                                            -- NULL: absent, with the reason
  uncertainty REAL,
  unit        TEXT NOT NULL,
  reason      TEXT,
  PRIMARY KEY (attempt_id, name),
  CHECK ((value IS NULL) = (reason IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- What an attempt did, and what came back of it: comparisons are allowed or refused by it.
CREATE TABLE works (
  attempt_id  INTEGER PRIMARY KEY REFERENCES attempts (id),
  document    TEXT NOT NULL CHECK (json_valid(document)),      -- prompts, token counts, stop reasons, dtype, cache hits
  outputs     TEXT REFERENCES outputs (hash)                   -- greedy decoding only
) STRICT, WITHOUT ROWID;

-- Outputs by content, zlib-compressed JSON: [[prompt hash, output hash, [first token ids]], ...].
CREATE TABLE outputs (
  hash        TEXT PRIMARY KEY,
  content     BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE findings (
  id          INTEGER PRIMARY KEY,
  attempt_id  INTEGER NOT NULL REFERENCES attempts (id),
  code        TEXT NOT NULL,
  severity    TEXT NOT NULL CHECK (severity IN ('INFO', 'SUSPECT', 'INVALID')),
  text        TEXT NOT NULL
) STRICT;
CREATE INDEX findings_attempt ON findings (attempt_id);

CREATE TABLE devices (
  id            INTEGER PRIMARY KEY,
  uuid          TEXT NOT NULL UNIQUE,
  facts         TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(facts)),
  quarantined_utc TEXT,
  quarantine_reason TEXT
) STRICT;

-- Raw readings, every poll. A sample belongs to (device, boot, time); a window is a range of time.
CREATE TABLE samples (
  device_id   INTEGER NOT NULL REFERENCES devices (id),
  boot_id     TEXT NOT NULL,
  t_mono_ns   INTEGER NOT NULL,
  series      TEXT NOT NULL,                                   -- 'counter' | 'power' | 'slow'
  reading     TEXT NOT NULL CHECK (json_valid(reading)),
  PRIMARY KEY (device_id, boot_id, series, t_mono_ns)
) STRICT, WITHOUT ROWID;

CREATE TABLE baselines (
  id          INTEGER PRIMARY KEY,
  device_id   INTEGER REFERENCES devices (id),
  attempt_id  INTEGER REFERENCES attempts (id),
  kind        TEXT NOT NULL CHECK (kind IN ('B0', 'B1', 'B2_before', 'B2_after')),
  power_w     REAL,
  uncertainty_w REAL,
  reason      TEXT,
  taken_utc   TEXT NOT NULL,
  CHECK ((power_w IS NULL) = (reason IS NOT NULL))
) STRICT;
CREATE INDEX baselines_attempt ON baselines (attempt_id);

-- Append-only: replaying it gives the stored states.
CREATE TABLE transitions (
  id          INTEGER PRIMARY KEY,
  entity      TEXT NOT NULL CHECK (entity IN ('run', 'campaign')),
  entity_id   INTEGER NOT NULL,
  from_status TEXT,
  to_status   TEXT NOT NULL,
  data        TEXT NOT NULL CHECK (json_valid(data)),
  at_utc      TEXT NOT NULL,
  by          TEXT NOT NULL
) STRICT;
CREATE INDEX transitions_entity ON transitions (entity, entity_id);
CREATE TRIGGER transitions_keep BEFORE DELETE ON transitions
  BEGIN SELECT RAISE(ABORT, 'the transition log is append-only'); END;
CREATE TRIGGER transitions_fixed BEFORE UPDATE ON transitions
  BEGIN SELECT RAISE(ABORT, 'the transition log is append-only'); END;

-- What a person asks of the daemon, and its answer.
CREATE TABLE commands (
  id           INTEGER PRIMARY KEY,
  verb         TEXT NOT NULL,
  arguments    TEXT NOT NULL CHECK (json_valid(arguments)),
  asked_utc    TEXT NOT NULL,
  expires_utc  TEXT NOT NULL,
  taken_utc    TEXT,
  answered_utc TEXT,
  exit_code    INTEGER,
  answer       TEXT,
  CHECK ((answered_utc IS NULL) = (exit_code IS NULL))
) STRICT;
CREATE INDEX commands_open ON commands (id) WHERE answered_utc IS NULL;

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

-- What the daemon does now: one row a topic, overwritten.
CREATE TABLE live (
  topic       TEXT PRIMARY KEY,                                -- 'daemon' | 'lane:<name>'
  document    TEXT NOT NULL CHECK (json_valid(document)),
  at_utc      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What people are told. `urls_from` names where the addresses are; they themselves are never kept.
CREATE TABLE outbox (
  id            INTEGER PRIMARY KEY,
  event         TEXT NOT NULL CHECK (event IN ('finished', 'breaker', 'gpu_lost', 'disk_low', 'digest')),
  campaign_id   INTEGER NOT NULL REFERENCES campaigns (id),
  urls_from     TEXT NOT NULL,
  key           TEXT UNIQUE,                                   -- what is told at most once, such as a day's digest
  title         TEXT NOT NULL,
  body          TEXT NOT NULL,
  written_utc   TEXT NOT NULL,
  not_before_utc TEXT NOT NULL,                                -- moves on with every try that failed
  tries         INTEGER NOT NULL DEFAULT 0,
  delivered     TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(delivered)), -- places of the addresses that took it
  error         TEXT,
  sent_utc      TEXT,
  given_up_utc  TEXT,
  CHECK (sent_utc IS NULL OR given_up_utc IS NULL)
) STRICT;
CREATE INDEX outbox_due ON outbox (not_before_utc) WHERE sent_utc IS NULL AND given_up_utc IS NULL;
CREATE INDEX outbox_sent ON outbox (urls_from, sent_utc) WHERE sent_utc IS NOT NULL;
