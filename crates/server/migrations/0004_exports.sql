-- Exports of a vault's jobs. Their files lie in the data folder; a row without files, or files without a row, are of no use.

CREATE TABLE exports (
    id           TEXT PRIMARY KEY NOT NULL,   -- lower-case GUID; names the files
    vault_key    TEXT NOT NULL,
    principal_id TEXT NOT NULL,               -- who asked
    created_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    error        TEXT                         -- why there are no files; NULL: there are, once it has ended
);
CREATE INDEX exports_by_vault ON exports (vault_key, created_at);
CREATE INDEX exports_by_time ON exports (created_at);
