-- Who made and changed a resource, and how often it changed: what its entity tag and its system data say.
-- One table for all types, so that a type needs no columns for it. Only the resources that have entity tags have rows.

CREATE TABLE resource_stamps (
    kind            TEXT NOT NULL,     -- folded last type of the id, e.g. backupvaults
    key             TEXT NOT NULL,     -- folded id of the resource
    revision        INTEGER NOT NULL,  -- grows with every change that a client can see
    created_by      TEXT NOT NULL,     -- application id; empty: the service, or not known
    created_by_type TEXT NOT NULL,     -- Application | ManagedIdentity; empty like created_by
    created_at      INTEGER NOT NULL,
    updated_by      TEXT NOT NULL,
    updated_by_type TEXT NOT NULL,
    updated_at      INTEGER NOT NULL,
    PRIMARY KEY (kind, key)
);

INSERT INTO resource_stamps SELECT 'backupvaults', key, 1, '', '', created_at, '', '', updated_at FROM backup_vaults;
INSERT INTO resource_stamps SELECT 'backuppolicies', key, 1, '', '', created_at, '', '', updated_at FROM backup_policies;
INSERT INTO resource_stamps SELECT 'backupinstances', key, 1, '', '', created_at, '', '', updated_at FROM backup_instances;
INSERT INTO resource_stamps SELECT 'storageaccounts', key, 1, '', '', created_at, '', '', updated_at FROM storage_accounts;
