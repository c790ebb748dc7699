-- The admin API: who may use it, what it answered, and what went wrong.
-- Reference tables, none of them per key: token, answer_kept, incident.

CREATE TABLE token (
    id          TEXT PRIMARY KEY,               -- public part of the token
    role        TEXT NOT NULL,
    name        TEXT NOT NULL,
    hashed      BLOB NOT NULL,                  -- HMAC of the whole token under the pepper
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER,
    used_at     INTEGER                         -- to the day
) STRICT, WITHOUT ROWID;

-- The answer to a POST with an Idempotency-Key, for a day: the same request again gets the same answer.
CREATE TABLE answer_kept (
    token       TEXT NOT NULL,
    name        BLOB NOT NULL,                  -- HMAC of the Idempotency-Key
    request     BLOB NOT NULL,                  -- HMAC of what was asked
    sealed      BLOB NOT NULL,                  -- the answer under AES-256-GCM: it may hold product keys
    kept_at     INTEGER NOT NULL,
    PRIMARY KEY (token, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX answer_kept_by_time ON answer_kept (kept_at);

-- Every problem that was answered, by its reference number. No address, no body, no name.
CREATE TABLE incident (
    reference   TEXT PRIMARY KEY,
    at          INTEGER NOT NULL,
    code        TEXT NOT NULL,
    status      INTEGER NOT NULL,
    route       TEXT NOT NULL,
    request     TEXT NOT NULL,                  -- the request's identifier in the log
    product_id  TEXT                            -- only if possession of the key was proven
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_by_time ON incident (at);

-- Pages of lists, and what `find` looks for.
CREATE INDEX product_key_by_time ON product_key (created_at, serial);
CREATE INDEX product_key_by_product_and_time ON product_key (product, created_at, serial);
CREATE INDEX product_key_by_organization ON product_key (organization, created_at, serial);
CREATE INDEX product_key_by_partial ON product_key (partial);
CREATE INDEX activation_by_id ON activation (id);
CREATE INDEX installation_by_guid ON installation (guid);
