-- What people are told. `urls_from` names where the addresses are; they themselves are never kept.
CREATE TABLE outbox (
  id            INTEGER PRIMARY KEY,
  event         TEXT NOT NULL CHECK (event IN ('finished', 'breaker', 'gpu_lost', 'disk_low', 'digest')),
  campaign_id   INTEGER NOT NULL REFERENCES campaigns (id),
  urls_from     TEXT NOT NULL,
  key           TEXT UNIQUE,
  title         TEXT NOT NULL,
  body          TEXT NOT NULL,
  written_utc   TEXT NOT NULL,
  not_before_utc TEXT NOT NULL,
  tries         INTEGER NOT NULL DEFAULT 0,
  delivered     TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(delivered)),
  error         TEXT,
  sent_utc      TEXT,
  given_up_utc  TEXT,
  CHECK (sent_utc IS NULL OR given_up_utc IS NULL)
) STRICT;
CREATE INDEX outbox_due ON outbox (not_before_utc) WHERE sent_utc IS NULL AND given_up_utc IS NULL;
CREATE INDEX outbox_sent ON outbox (urls_from, sent_utc) WHERE sent_utc IS NOT NULL;
