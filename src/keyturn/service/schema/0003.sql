-- Decisions in the order they were made: a row is large, is written twice (decided, then signed), and is looked up by its
-- digest only when a request comes again. Clustered by digest, each of them cost pages of its own.

CREATE TABLE intent_in_order (
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
) STRICT;
INSERT INTO intent_in_order SELECT serial, request, activation, how, kid, payload, signature, facts, recorded_at
    FROM intent ORDER BY recorded_at;
DROP TABLE intent;
ALTER TABLE intent_in_order RENAME TO intent;
CREATE INDEX intent_open ON intent (serial) WHERE signature IS NULL;

-- Two indexes that every minted key paid for: one is the beginning of another, one held mostly keys of nobody.
DROP INDEX product_key_by_product;
DROP INDEX product_key_by_organization;
CREATE INDEX product_key_by_organization ON product_key (organization, created_at, serial) WHERE organization IS NOT NULL;
