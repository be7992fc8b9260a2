-- The foundation: facts about the installation, principals, roles, subscriptions, groups, storage accounts.
-- Times are microseconds since 1970, JSON is text, `key` columns are folded (lower-case) resource ids.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

CREATE TABLE principals (
    object_id    TEXT PRIMARY KEY NOT NULL,   -- lower-case GUID
    app_id       TEXT NOT NULL UNIQUE,        -- lower-case GUID; what a client calls client_id
    name         TEXT NOT NULL,
    kind         TEXT NOT NULL,               -- Application | ManagedIdentity
    resource_key TEXT,                        -- of a managed identity: the resource it belongs to
    secret_hash  TEXT,                        -- hex of the keyed hash; NULL: cannot ask for tokens
    created_at   INTEGER NOT NULL
);
CREATE UNIQUE INDEX principals_by_resource ON principals (resource_key) WHERE resource_key IS NOT NULL;
CREATE UNIQUE INDEX principals_by_application_name ON principals (name) WHERE kind = 'Application';

CREATE TABLE role_assignments (
    key            TEXT PRIMARY KEY NOT NULL,
    id             TEXT NOT NULL,
    name           TEXT NOT NULL,
    scope_key      TEXT NOT NULL,
    scope          TEXT NOT NULL,
    role           TEXT NOT NULL,             -- GUID of the role definition
    principal_id   TEXT NOT NULL,
    principal_type TEXT NOT NULL,
    description    TEXT,
    created_by     TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
);
CREATE UNIQUE INDEX role_assignments_once ON role_assignments (principal_id, role, scope_key);
CREATE INDEX role_assignments_by_scope ON role_assignments (scope_key);

CREATE TABLE subscriptions (
    key          TEXT PRIMARY KEY NOT NULL,   -- folded subscription GUID
    id           TEXT NOT NULL,
    display_name TEXT NOT NULL,
    created_at   INTEGER NOT NULL
);

CREATE TABLE subscription_aliases (
    key              TEXT PRIMARY KEY NOT NULL,
    name             TEXT NOT NULL,
    subscription_key TEXT NOT NULL REFERENCES subscriptions (key),
    created_at       INTEGER NOT NULL
);

CREATE TABLE resource_groups (
    key              TEXT PRIMARY KEY NOT NULL,
    id               TEXT NOT NULL,
    name             TEXT NOT NULL,
    subscription_key TEXT NOT NULL REFERENCES subscriptions (key),
    location         TEXT NOT NULL,
    tags             TEXT NOT NULL,
    created_at       INTEGER NOT NULL
);
CREATE INDEX resource_groups_by_subscription ON resource_groups (subscription_key, key);

CREATE TABLE storage_accounts (
    key              TEXT PRIMARY KEY NOT NULL,
    id               TEXT NOT NULL,
    name             TEXT NOT NULL,
    subscription_key TEXT NOT NULL,
    group_key        TEXT NOT NULL REFERENCES resource_groups (key),
    location         TEXT NOT NULL,
    tags             TEXT NOT NULL,
    properties       TEXT NOT NULL,           -- JSON: sku, kind, what the owner said
    connection_kind  TEXT,                    -- AzureBlob | LocalFolder; NULL: not connected
    connection_url   TEXT,                    -- where, without any secret
    connection       TEXT,                    -- the whole connection, sealed; bound to `key`
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
);
CREATE INDEX storage_accounts_by_group ON storage_accounts (group_key, key);
CREATE INDEX storage_accounts_by_subscription ON storage_accounts (subscription_key, key);
