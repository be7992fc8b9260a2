-- Deleted vaults keep their row and everything inside, under the key of the deleted vault, so that the old name is free.
-- All four are NULL for a vault that is not deleted.

ALTER TABLE backup_vaults ADD COLUMN deleted_name TEXT;        -- a GUID: its name among the deleted vaults
ALTER TABLE backup_vaults ADD COLUMN deleted_at INTEGER;
ALTER TABLE backup_vaults ADD COLUMN purge_at INTEGER;
ALTER TABLE backup_vaults ADD COLUMN delete_activity_id TEXT;
CREATE INDEX backup_vaults_to_purge ON backup_vaults (purge_at) WHERE purge_at IS NOT NULL;
