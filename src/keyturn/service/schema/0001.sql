-- Every per-key table has the key's serial in its primary key, so that an engine that shards can split by it.
-- Reference tables (few rows, copied everywhere): organization, product, edition.

CREATE TABLE organization (
    name        TEXT PRIMARY KEY,
    title       TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE product (
    slug        TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,           -- THUMBPRINT/SLUG[+test]
    title       TEXT NOT NULL,
    test        INTEGER NOT NULL,
    mode        TEXT NOT NULL,
    terms       TEXT NOT NULL,                  -- JSON, core.terms
    terms_url   TEXT,
    version     INTEGER NOT NULL,               -- of the product file; grows with every change
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE edition (
    product     TEXT NOT NULL REFERENCES product (slug),
    name        TEXT NOT NULL,
    features    TEXT NOT NULL,                  -- JSON list
    PRIMARY KEY (product, name)
) STRICT;

-- A product key. Without the pepper nothing here helps to use it: `sealed` is K under AES-256-GCM.
CREATE TABLE product_key (
    serial      INTEGER PRIMARY KEY,
    product     TEXT NOT NULL REFERENCES product (slug),
    channel     TEXT NOT NULL,
    organization TEXT REFERENCES organization (name),
    edition     TEXT NOT NULL,
    features    TEXT NOT NULL,
    seat_limit  INTEGER NOT NULL,
    seats_used  INTEGER NOT NULL DEFAULT 0,
    seats_ever  INTEGER NOT NULL DEFAULT 0,
    term_days   INTEGER,
    until       INTEGER,
    blocked     INTEGER NOT NULL DEFAULT 0,
    partial     TEXT NOT NULL,                  -- last five symbols
    pepper      INTEGER NOT NULL,               -- version of the pepper that sealed it
    sealed      BLOB NOT NULL,
    note        TEXT NOT NULL DEFAULT '',
    created_at  INTEGER NOT NULL,
    CHECK (seats_used >= 0 AND seats_used <= seat_limit)
) STRICT;
CREATE INDEX product_key_by_product ON product_key (product, serial);

CREATE TABLE activation (
    serial      INTEGER NOT NULL REFERENCES product_key (serial),
    id          TEXT NOT NULL,                  -- UUIDv7
    seat        INTEGER NOT NULL,
    evidence    TEXT NOT NULL,
    activated_at INTEGER NOT NULL,
    ended_at    INTEGER,
    ended_by    TEXT,                           -- released, reclaimed
    PRIMARY KEY (serial, id)
) STRICT;

-- Which hardware a seat is: at most one owner per pair and tag.
CREATE TABLE seat_pair (
    serial      INTEGER NOT NULL,
    scheme      INTEGER NOT NULL,
    pair        TEXT NOT NULL,
    tag         TEXT NOT NULL,
    activation  TEXT NOT NULL,
    PRIMARY KEY (serial, scheme, pair, tag),
    FOREIGN KEY (serial, activation) REFERENCES activation (serial, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX seat_pair_by_activation ON seat_pair (serial, activation);

-- Which installations (by key thumbprint) hold which seat.
CREATE TABLE installation (
    serial      INTEGER NOT NULL,
    thumbprint  TEXT NOT NULL,
    guid        TEXT NOT NULL,
    activation  TEXT NOT NULL,
    seen_at     INTEGER NOT NULL,
    PRIMARY KEY (serial, thumbprint),
    FOREIGN KEY (serial, activation) REFERENCES activation (serial, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX installation_by_activation ON installation (serial, activation);

CREATE TABLE move (
    serial      INTEGER NOT NULL,
    activation  TEXT NOT NULL,
    moved_at    INTEGER NOT NULL,
    id          TEXT NOT NULL,
    PRIMARY KEY (serial, activation, id)
) STRICT, WITHOUT ROWID;

-- What was decided, before it is signed. `signature` is NULL from the commit until the answer is made.
CREATE TABLE intent (
    serial      INTEGER NOT NULL,
    request     TEXT NOT NULL,                  -- digest of the request
    activation  TEXT NOT NULL,
    how         TEXT NOT NULL,                  -- new, same, moved
    kid         TEXT NOT NULL,
    payload     BLOB NOT NULL,
    signature   BLOB,
    facts       TEXT NOT NULL,                  -- JSON: the declared facts of the request
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (serial, request),
    FOREIGN KEY (serial, activation) REFERENCES activation (serial, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX intent_open ON intent (serial) WHERE signature IS NULL;

CREATE TABLE release (
    serial      INTEGER NOT NULL,
    activation  TEXT NOT NULL,
    document    TEXT NOT NULL,                  -- the signed release itself: proof against a later claim
    released_at INTEGER NOT NULL,
    PRIMARY KEY (serial, activation)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id          TEXT PRIMARY KEY,               -- UUIDv7
    at          INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    action      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    detail      TEXT NOT NULL                   -- JSON
) STRICT, WITHOUT ROWID;
