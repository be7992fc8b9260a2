-- Roles that somebody made. A definition lies at no scope: it says where it may be given.
-- Times are microseconds since 1970, JSON is text.

CREATE TABLE role_definitions (
    guid              TEXT PRIMARY KEY NOT NULL,   -- lower case: what role_assignments.role names
    name_key          TEXT NOT NULL UNIQUE,        -- the name, lower case: one of each in the whole tenant
    name              TEXT NOT NULL,
    description       TEXT,
    permissions       TEXT NOT NULL,               -- JSON: [{actions, notActions, dataActions, notDataActions}]
    assignable_scopes TEXT NOT NULL,               -- JSON: ids
    created_by        TEXT NOT NULL,
    updated_by        TEXT NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL
);
CREATE INDEX role_assignments_by_role ON role_assignments (role);
