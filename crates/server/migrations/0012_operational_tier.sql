-- The operational tier: what of the past it can bring back, and what protecting an account by it changed in the account's settings.
-- Times are microseconds since 1970, `key` columns are folded (lower-case) resource ids.

-- Each row is a stretch of time without a hole.
CREATE TABLE operational_ranges (
    instance_uuid TEXT NOT NULL,
    starts_at     INTEGER NOT NULL,         -- the first state
    ends_at       INTEGER NOT NULL,         -- everything until then is known
    is_open       INTEGER NOT NULL,         -- 1: the next look may go on with it
    base          TEXT,                     -- the account keeps versions: the newest base point; NULL: each look made a state of its own
    segments      INTEGER NOT NULL,         -- of its journal, as written last
    feed_cursor   TEXT,                     -- where the account's feed goes on
    PRIMARY KEY (instance_uuid, starts_at)
);

-- The blob service of a storage account.
CREATE TABLE blob_services (
    key           TEXT PRIMARY KEY NOT NULL,
    settings      TEXT NOT NULL,            -- JSON
    protection    TEXT,                     -- JSON: what a protection changed, so that it can be undone; NULL: nothing
    versions_seen INTEGER,                  -- 1: the last look found versions and a change feed; 0: it did not; NULL: nobody looked
    updated_at    INTEGER NOT NULL
);
