-- By telephone: the installation ID of a computer until it is answered, and the answer until the computer has taken it.
-- A row leaves with the end of its item, whatever ends it.
CREATE TABLE call (
  task TEXT NOT NULL,
  computer TEXT NOT NULL,
  installation_id TEXT NOT NULL,
  confirmation_id TEXT,
  asked_at INTEGER NOT NULL,
  PRIMARY KEY (task, computer),
  FOREIGN KEY (task, computer) REFERENCES item (task, computer) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
