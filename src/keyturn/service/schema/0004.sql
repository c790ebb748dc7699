-- What a key that was stolen later had honestly signed: the leaves of the tree whose root its revocation carries.

CREATE TABLE honest (
    serial      INTEGER NOT NULL,
    kid         TEXT NOT NULL,
    position    INTEGER NOT NULL,               -- of the leaf in the tree
    activation  TEXT NOT NULL,
    certificate TEXT NOT NULL,                  -- its digest
    leaf        BLOB NOT NULL,
    PRIMARY KEY (serial, kid, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX honest_in_order ON honest (kid, position);
