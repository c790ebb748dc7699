-- What the publisher took back of rights that were given: each change has the next number of its product's list, and taking
-- one back is a change too. A reference table: few rows.

CREATE TABLE revocation (
    product     TEXT NOT NULL REFERENCES product (slug),
    number      INTEGER NOT NULL,
    serial      INTEGER NOT NULL,
    activation  TEXT,                           -- NULL: all of the key's
    reason      TEXT NOT NULL,                  -- key_blocked, activation_reclaimed, restored
    at          INTEGER NOT NULL,
    PRIMARY KEY (product, number)
) STRICT, WITHOUT ROWID;
