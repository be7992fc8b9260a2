-- Backup vaults and everything inside them, asynchronous operations, and the queue of jobs.
-- Times are microseconds since 1970, JSON is text, `key` columns are folded (lower-case) resource ids.

CREATE TABLE backup_vaults (
    key                TEXT PRIMARY KEY NOT NULL,
    id                 TEXT NOT NULL,
    name               TEXT NOT NULL,
    subscription_id    TEXT NOT NULL,          -- as created
    subscription_key   TEXT NOT NULL,
    group_key          TEXT NOT NULL REFERENCES resource_groups (key),
    location           TEXT NOT NULL,
    tags               TEXT NOT NULL,
    properties         TEXT NOT NULL,          -- JSON: the settings, complete with defaults
    vault_uuid         TEXT NOT NULL UNIQUE,   -- names the vault in operation ids and in the store
    principal_id       TEXT,                   -- object id of its own identity; NULL: none
    provisioning_state TEXT NOT NULL,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL
);
CREATE INDEX backup_vaults_by_group ON backup_vaults (group_key, key);
CREATE INDEX backup_vaults_by_subscription ON backup_vaults (subscription_key, key);

CREATE TABLE backup_policies (
    key        TEXT PRIMARY KEY NOT NULL,
    id         TEXT NOT NULL,
    name       TEXT NOT NULL,
    vault_key  TEXT NOT NULL REFERENCES backup_vaults (key),
    version    INTEGER NOT NULL,               -- 1, 2, … with every change
    properties TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX backup_policies_by_vault ON backup_policies (vault_key, key);

-- What a policy said before it was changed.
CREATE TABLE backup_policy_versions (
    policy_key TEXT NOT NULL,
    version    INTEGER NOT NULL,
    properties TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (policy_key, version)
);

CREATE TABLE backup_instances (
    key                TEXT PRIMARY KEY NOT NULL,
    id                 TEXT NOT NULL,
    name               TEXT NOT NULL,
    vault_key          TEXT NOT NULL REFERENCES backup_vaults (key),
    instance_uuid      TEXT NOT NULL UNIQUE,   -- names the instance in the store
    datasource_key     TEXT NOT NULL,          -- folded id of the storage account
    properties         TEXT NOT NULL,
    policy_key         TEXT NOT NULL REFERENCES backup_policies (key),
    protection_state   TEXT NOT NULL,
    provisioning_state TEXT NOT NULL,
    error              TEXT,                   -- JSON of the `info` shape: why it is not protected
    deleted_at         INTEGER,
    purge_at           INTEGER,
    billing_end        INTEGER,
    delete_activity_id TEXT,
    configured_at      INTEGER,                -- since when it is protected without a break
    next_run_at        INTEGER,                -- the next scheduled backup; NULL: none is due
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL
);
CREATE INDEX backup_instances_by_vault ON backup_instances (vault_key, key);
CREATE INDEX backup_instances_by_policy ON backup_instances (policy_key);
CREATE INDEX backup_instances_due ON backup_instances (next_run_at) WHERE next_run_at IS NOT NULL;
-- An account is protected once; soft-deleted instances do not count.
CREATE UNIQUE INDEX backup_instances_once ON backup_instances (datasource_key) WHERE protection_state <> 'SoftDeleted';

CREATE TABLE recovery_points (                 -- a cache of what the vaults' own records say
    instance_key TEXT NOT NULL,
    id           TEXT NOT NULL,                -- 32 hex digits
    job_id       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,                      -- NULL: kept for ever
    tag          TEXT NOT NULL,
    rule         TEXT NOT NULL,
    policy_name  TEXT NOT NULL,
    tag_version  INTEGER,
    counts       TEXT NOT NULL,                -- JSON: blobs, bytes
    state        TEXT NOT NULL,                -- Completed | Partial
    store        TEXT NOT NULL,                -- VaultStore | OperationalStore
    deleted      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (instance_key, id)
);
CREATE INDEX recovery_points_by_time ON recovery_points (instance_key, created_at);
CREATE INDEX recovery_points_by_expiry ON recovery_points (expires_at) WHERE deleted = 0;

CREATE TABLE operations (
    id              TEXT PRIMARY KEY NOT NULL,
    vault_key       TEXT NOT NULL,
    subscription_id TEXT NOT NULL,
    location        TEXT NOT NULL,
    kind            TEXT NOT NULL,
    waiting         TEXT NOT NULL,             -- validate | create | delete: which Retry-After
    status          TEXT NOT NULL,             -- Inprogress | Succeeded | Failed
    started_at      INTEGER NOT NULL,
    ended_at        INTEGER,
    error           TEXT,                      -- JSON: the `error` member of the status
    error_status    INTEGER,                   -- HTTP status of the error where it is answered as such
    job_id          TEXT,                      -- ARM id of the job that it announced
    principal_id    TEXT NOT NULL,
    correlation_id  TEXT NOT NULL,
    resource_key    TEXT
);
CREATE INDEX operations_by_end ON operations (ended_at);

CREATE TABLE jobs (
    id               TEXT PRIMARY KEY NOT NULL,
    vault_key        TEXT NOT NULL,
    instance_key     TEXT,
    kind             TEXT NOT NULL,            -- see jobs/spec.rs
    visible          INTEGER NOT NULL,         -- 1: listed under backupJobs
    status           TEXT NOT NULL,            -- Queued | InProgress | Completed | CompletedWithWarnings | Failed | Cancelled
    spec             TEXT NOT NULL,            -- JSON: what to do, never changed
    state            TEXT NOT NULL,            -- JSON: checkpoints and counters, the worker's
    error            TEXT,                     -- JSON array of the `info` shape
    operation_id     TEXT,                     -- the operation that ends with this job, or that announced it
    principal_id     TEXT NOT NULL,
    correlation_id   TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    started_at       INTEGER,
    ended_at         INTEGER,
    not_before       INTEGER NOT NULL,
    attempt          INTEGER NOT NULL DEFAULT 0,
    lease_owner      TEXT,
    lease_until      INTEGER,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    display          TEXT NOT NULL             -- JSON: the instance's names when the job was queued
);
CREATE INDEX jobs_unfinished ON jobs (status, not_before, created_at);
CREATE INDEX jobs_by_vault ON jobs (vault_key, visible, created_at);
CREATE INDEX jobs_by_instance ON jobs (instance_key, kind, status);
