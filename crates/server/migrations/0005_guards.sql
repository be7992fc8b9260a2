-- Resource guards, the links of vaults to them, and deletions that somebody was allowed to make for a while.

CREATE TABLE resource_guards (
    key              TEXT PRIMARY KEY NOT NULL,
    id               TEXT NOT NULL,
    name             TEXT NOT NULL,
    subscription_key TEXT NOT NULL,
    group_key        TEXT NOT NULL REFERENCES resource_groups (key),
    location         TEXT NOT NULL,
    tags             TEXT NOT NULL,
    exclusions       TEXT NOT NULL,            -- JSON: names of the operations that it does not protect
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
);
CREATE INDEX resource_guards_by_group ON resource_guards (group_key, key);
CREATE INDEX resource_guards_by_subscription ON resource_guards (subscription_key, key);

CREATE TABLE resource_guard_proxies (
    key         TEXT PRIMARY KEY NOT NULL,
    id          TEXT NOT NULL,
    name        TEXT NOT NULL,
    vault_key   TEXT NOT NULL UNIQUE REFERENCES backup_vaults (key),   -- a vault has one guard at most
    guard_key   TEXT NOT NULL REFERENCES resource_guards (key),
    description TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
);
CREATE INDEX resource_guard_proxies_by_guard ON resource_guard_proxies (guard_key);

CREATE TABLE unlocked_deletes (
    resource_key TEXT NOT NULL,                -- folded id of what may be deleted, once
    principal_id TEXT NOT NULL,                -- by whom
    vault_key    TEXT NOT NULL,
    expires_at   INTEGER NOT NULL,
    PRIMARY KEY (resource_key, principal_id)
);

-- 1: a proxy links it to a guard. Stands here as well so that lists of vaults need no join.
ALTER TABLE backup_vaults ADD COLUMN is_guarded INTEGER NOT NULL DEFAULT 0;
