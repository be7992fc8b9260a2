-- When the operational tier looks at an instance next, microseconds; NULL: it need not. Whoever is protected now is looked through once.

ALTER TABLE backup_instances ADD COLUMN look_at INTEGER;
UPDATE backup_instances SET look_at = 0 WHERE protection_state IN ('ProtectionConfigured', 'ProtectionError');
CREATE INDEX backup_instances_looks ON backup_instances (look_at) WHERE look_at IS NOT NULL;
-- The scheduler asks every second for deleted instances whose time is over.
CREATE INDEX backup_instances_to_purge ON backup_instances (purge_at) WHERE purge_at IS NOT NULL;
