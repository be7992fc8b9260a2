-- Management locks: what lies at a locked scope or below it cannot be removed, or not be changed either.
-- Times are microseconds since 1970, `key` columns are folded (lower-case) resource ids.

CREATE TABLE management_locks (
    key        TEXT PRIMARY KEY NOT NULL,
    id         TEXT NOT NULL,
    name       TEXT NOT NULL,
    scope_key  TEXT NOT NULL,
    scope      TEXT NOT NULL,
    level      TEXT NOT NULL,               -- CanNotDelete | ReadOnly
    notes      TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX management_locks_by_scope ON management_locks (scope_key);
