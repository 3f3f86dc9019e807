-- What an attempt did, and what came back of it: comparisons are allowed or refused by it.
CREATE TABLE works (
  attempt_id  INTEGER PRIMARY KEY REFERENCES attempts (id),
  document    TEXT NOT NULL CHECK (json_valid(document)),
  outputs     TEXT REFERENCES outputs (hash)
) STRICT, WITHOUT ROWID;
CREATE TABLE outputs (
  hash        TEXT PRIMARY KEY,
  content     BLOB NOT NULL
) STRICT, WITHOUT ROWID;
