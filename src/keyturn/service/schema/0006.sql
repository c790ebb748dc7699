-- Telephone activation. A code has room for an edition's number and for the first digits of a seat, and nobody keeps who called.

ALTER TABLE edition ADD COLUMN number INTEGER;  -- in confirmation IDs, from 0, never another: those above 7 have no place there
UPDATE edition SET number = (SELECT count(*) FROM edition e WHERE e.product = edition.product AND e.rowid < edition.rowid);

-- Which seats a call named: the first digits of one pair's tag, or of an installation's thumbprint.
CREATE TABLE heard (
    serial      INTEGER NOT NULL,
    weak        INTEGER NOT NULL,               -- 1: of the thumbprint
    prefix      TEXT NOT NULL,                  -- of a tag 11 hexadecimal digits, of a thumbprint 7 of base64url
    activation  TEXT NOT NULL,
    PRIMARY KEY (serial, weak, prefix),
    FOREIGN KEY (serial, activation) REFERENCES activation (serial, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX heard_by_activation ON heard (serial, activation);

-- What happened by telephone on a day: wrong proofs, and new seats without a person of the staff. The serial is what was said.
CREATE TABLE call_day (
    serial      INTEGER NOT NULL,
    day         INTEGER NOT NULL,               -- days since 1970
    wrong       INTEGER NOT NULL DEFAULT 0,
    alone       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (serial, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX call_day_by_day ON call_day (day);

-- A call that is not finished: what was said so far of an installation ID, for a day, or until it is answered.
CREATE TABLE ticket (
    id          TEXT PRIMARY KEY,               -- eight digits, which the caller is told
    said        TEXT NOT NULL,
    at          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
