-- When a vault last let points go, and when its space was last begun to be freed: NULL for never.

ALTER TABLE backup_vaults ADD COLUMN points_removed_at INTEGER;
ALTER TABLE backup_vaults ADD COLUMN prune_begun_at INTEGER;
CREATE INDEX backup_vaults_to_prune ON backup_vaults (points_removed_at) WHERE points_removed_at IS NOT NULL;
