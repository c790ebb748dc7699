-- The ledger of an activation host. Everything is per product; nothing here names a person, a user or a computer's name.

CREATE TABLE product (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,           -- THUMBPRINT/SLUG[+test]
    counts_with TEXT NOT NULL,                  -- the same for products whose computers count together
    numbers     INTEGER NOT NULL DEFAULT 0      -- the last number given to a computer
) STRICT;
CREATE INDEX product_counts ON product (counts_with);

-- A computer that asked. It counts towards the threshold for 30 days from `seen_at`, if `counts`.
CREATE TABLE computer (
    product     INTEGER NOT NULL REFERENCES product (id),
    id          TEXT NOT NULL,                  -- UUIDv7; its leases call it their activation
    number      INTEGER NOT NULL,
    since       INTEGER NOT NULL,               -- when it first asked
    seen_at     INTEGER NOT NULL,
    leased_at   INTEGER,                        -- its first lease; none yet: it waits
    ends_at     INTEGER,                        -- of its newest lease
    counts      INTEGER NOT NULL,               -- 0: it keeps nothing, so it could come as many
    pairs       TEXT NOT NULL,                  -- JSON: its hardware, as in `pair`
    told_by     TEXT,                           -- the other host that told of it; none: it asked here
    PRIMARY KEY (product, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX computer_counted ON computer (product, seen_at, counts) WHERE counts = 1;  -- With `counts`, no row is read to count it.

-- Which hardware is which computer: at most one owner per pair and tag.
CREATE TABLE pair (
    product     INTEGER NOT NULL,
    scheme      INTEGER NOT NULL,
    pair        TEXT NOT NULL,
    tag         TEXT NOT NULL,
    computer    TEXT NOT NULL,
    PRIMARY KEY (product, scheme, pair, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX pair_by_computer ON pair (product, computer);

-- Which installations (by key thumbprint) are on which computer, and where the chain of their leases stands.
CREATE TABLE installation (
    product     INTEGER NOT NULL,
    thumbprint  TEXT NOT NULL,
    guid        TEXT NOT NULL,
    computer    TEXT NOT NULL,
    presented   TEXT,                           -- digest of the newest lease that it showed
    asked       INTEGER NOT NULL,               -- the newest time that one of its requests bears
    PRIMARY KEY (product, thumbprint),
    FOREIGN KEY (product, computer) REFERENCES computer (product, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX installation_by_computer ON installation (product, computer);

-- Leases that were issued and not shown yet, a few for each installation. The signature is made anew from the same bytes.
-- Content is longer than what a page keeps of a row in a key's order: so this table has row numbers.
CREATE TABLE lease (
    product     INTEGER NOT NULL,
    thumbprint  TEXT NOT NULL,
    slot        INTEGER NOT NULL,               -- 0 to 15
    request     TEXT NOT NULL,                  -- digest of the request that it answers
    digest      TEXT NOT NULL,                  -- of the signed lease: the next request names it
    issued_at   INTEGER NOT NULL,
    bare        INTEGER NOT NULL,               -- whether the request showed no hardware
    payload     BLOB NOT NULL,
    PRIMARY KEY (product, thumbprint, slot),
    FOREIGN KEY (product, thumbprint) REFERENCES installation (product, thumbprint)
) STRICT;

-- Copies that were found: of which computer, and which identity each was told to take.
CREATE TABLE fork (
    product     INTEGER NOT NULL,
    thumbprint  TEXT NOT NULL,                  -- the installation key that both had
    copy        TEXT NOT NULL,                  -- digest of what tells this copy from others
    computer    TEXT NOT NULL,                  -- the original
    reason      TEXT NOT NULL,
    guid        TEXT NOT NULL,                  -- the copy's new installation
    request     TEXT NOT NULL,                  -- digest of its newest request
    payload     BLOB NOT NULL,                  -- the answer to that
    since       INTEGER NOT NULL,
    seen_at     INTEGER NOT NULL,
    PRIMARY KEY (product, thumbprint, copy)
) STRICT, WITHOUT ROWID;

-- Other hosts of the organization that told what they saw.
CREATE TABLE other (
    product     INTEGER NOT NULL REFERENCES product (id),
    host        TEXT NOT NULL,                  -- thumbprint of its key
    place       TEXT NOT NULL,                  -- the name and port it gives itself
    told_at     INTEGER NOT NULL,
    computers   INTEGER NOT NULL,               -- how many it told of
    PRIMARY KEY (product, host)
) STRICT, WITHOUT ROWID;
