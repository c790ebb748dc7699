-- The fleet manager's tables. Times are seconds since 1970; products are THUMBPRINT/SLUG.

-- Who asks. `agent` is the thumbprint of the computer's key for this manager, `number` that of its newest check-in,
-- `hardware` the pairs (JSON) that it showed then: two computers with one key are told apart by both.
CREATE TABLE computer (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  agent TEXT NOT NULL UNIQUE,
  number INTEGER NOT NULL,
  vm TEXT,
  hardware TEXT NOT NULL DEFAULT '{}',
  enrolled_at INTEGER NOT NULL,
  enrolled_by TEXT NOT NULL,
  seen_at INTEGER
) STRICT;
CREATE INDEX computer_name ON computer (name, id);

CREATE TABLE member (
  grp TEXT NOT NULL,
  computer TEXT NOT NULL REFERENCES computer (id) ON DELETE CASCADE,
  PRIMARY KEY (grp, computer)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_computer ON member (computer);

-- How each product stands on each computer, as it said last.
CREATE TABLE license (
  computer TEXT NOT NULL REFERENCES computer (id) ON DELETE CASCADE,
  product TEXT NOT NULL,
  name TEXT NOT NULL,
  edition TEXT,
  product_id TEXT,
  partial_key TEXT,
  installation_guid TEXT,
  activation_id TEXT,
  channel TEXT,
  via TEXT,
  state TEXT NOT NULL,
  usable INTEGER NOT NULL,
  evidence TEXT,
  activated_at TEXT,
  valid_until TEXT,
  grace_until TEXT,
  reason TEXT,
  remedy TEXT,
  PRIMARY KEY (computer, product)
) STRICT, WITHOUT ROWID;
CREATE INDEX license_state ON license (product, state);

-- What happened to a computer, for its story.
CREATE TABLE history (
  computer TEXT NOT NULL REFERENCES computer (id) ON DELETE CASCADE,
  at INTEGER NOT NULL,
  product TEXT,
  what TEXT NOT NULL,
  detail TEXT
) STRICT;
CREATE INDEX history_computer ON history (computer, at);

-- Products that the administrator brought: the verified product file with all trust bundles, and the newest revocation list.
CREATE TABLE product (
  name TEXT PRIMARY KEY,
  title TEXT NOT NULL,
  container TEXT NOT NULL,
  revocations TEXT,
  added_at INTEGER NOT NULL
) STRICT;

-- Product keys, sealed under a key that is kept apart from this file.
CREATE TABLE key (
  product TEXT NOT NULL REFERENCES product (name),
  serial INTEGER NOT NULL,
  channel TEXT NOT NULL,
  product_id TEXT NOT NULL,
  partial TEXT NOT NULL,
  sealed BLOB NOT NULL,
  remark TEXT,
  owned INTEGER,
  organization TEXT,
  used INTEGER,
  seats INTEGER,
  checked_at INTEGER,
  added_at INTEGER NOT NULL,
  PRIMARY KEY (product, serial)
) STRICT, WITHOUT ROWID;

-- An action on many computers, and how it goes on each. `steps` are those that are left, in order.
CREATE TABLE task (
  id TEXT PRIMARY KEY,
  action TEXT NOT NULL,
  way TEXT,
  product TEXT NOT NULL,
  serial INTEGER,
  host TEXT,
  made_by TEXT NOT NULL,
  made_at INTEGER NOT NULL
) STRICT;

CREATE TABLE item (
  task TEXT NOT NULL REFERENCES task (id) ON DELETE CASCADE,
  computer TEXT NOT NULL REFERENCES computer (id) ON DELETE CASCADE,
  product TEXT NOT NULL,
  step TEXT NOT NULL,
  steps TEXT NOT NULL,
  open INTEGER NOT NULL,
  document TEXT,
  vector TEXT,
  answer TEXT,
  code TEXT,
  detail TEXT,
  remedy TEXT,
  not_before INTEGER NOT NULL DEFAULT 0,
  changed_at INTEGER NOT NULL,
  PRIMARY KEY (task, computer)
) STRICT, WITHOUT ROWID;
CREATE INDEX item_open ON item (computer, open) WHERE open = 1;
CREATE INDEX item_step ON item (product, step, not_before) WHERE open = 1;
CREATE INDEX item_computer ON item (computer, changed_at);

-- What a computer was given, with the baseline of its hardware: enough to give it to the same hardware's next installation.
CREATE TABLE binding (
  product TEXT NOT NULL,
  activation TEXT NOT NULL,
  computer TEXT NOT NULL,
  serial INTEGER NOT NULL,
  certificate TEXT NOT NULL,
  request TEXT NOT NULL,
  vector TEXT NOT NULL,
  salt TEXT NOT NULL,
  pairs TEXT NOT NULL,
  kept_at INTEGER NOT NULL,
  PRIMARY KEY (product, activation)
) STRICT, WITHOUT ROWID;

CREATE TABLE pair (
  product TEXT NOT NULL,
  pair TEXT NOT NULL,
  tag TEXT NOT NULL,
  activation TEXT NOT NULL,
  PRIMARY KEY (product, pair, tag, activation),
  FOREIGN KEY (product, activation) REFERENCES binding (product, activation) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- What lets computers join; the secret's hash only.
CREATE TABLE token (
  id TEXT PRIMARY KEY,
  secret BLOB NOT NULL UNIQUE,
  grp TEXT,
  uses INTEGER,
  used INTEGER NOT NULL DEFAULT 0,
  expires_at INTEGER NOT NULL,
  made_by TEXT NOT NULL,
  made_at INTEGER NOT NULL,
  revoked_at INTEGER
) STRICT;

-- Files that were carried away: an answer is taken once, and only for what was asked.
CREATE TABLE export (
  id TEXT PRIMARY KEY,
  product TEXT NOT NULL,
  documents TEXT NOT NULL,
  requests INTEGER NOT NULL,
  made_by TEXT NOT NULL,
  made_at INTEGER NOT NULL,
  imported_at INTEGER
) STRICT;

-- People of the console. `failed` wrong passwords in a row; nobody signs in under the name before `locked_until`.
CREATE TABLE account (
  name TEXT PRIMARY KEY,
  password TEXT NOT NULL,
  role TEXT NOT NULL,
  made_at INTEGER NOT NULL,
  failed INTEGER NOT NULL DEFAULT 0,
  locked_until INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Who is signed in: the hash of the cookie's secret.
CREATE TABLE session (
  id BLOB PRIMARY KEY,
  account TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One-time links with which a person makes an account; the secret's hash only.
CREATE TABLE invitation (
  secret BLOB PRIMARY KEY,
  role TEXT NOT NULL,
  made_by TEXT NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Filters that somebody gave a name.
CREATE TABLE view (
  name TEXT PRIMARY KEY,
  selector TEXT NOT NULL,
  made_by TEXT NOT NULL
) STRICT;

CREATE TABLE audit (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  who TEXT NOT NULL,
  what TEXT NOT NULL,
  detail TEXT
) STRICT;

-- Computers of each state on each day, for the picture over time.
CREATE TABLE day (
  day INTEGER NOT NULL,
  product TEXT NOT NULL,
  state TEXT NOT NULL,
  computers INTEGER NOT NULL,
  PRIMARY KEY (day, product, state)
) STRICT, WITHOUT ROWID;

-- Computers that were found in the network or a directory; those that enrolled are in `computer`.
CREATE TABLE found (
  name TEXT PRIMARY KEY,
  address TEXT,
  source TEXT NOT NULL,
  found_at INTEGER NOT NULL
) STRICT;
