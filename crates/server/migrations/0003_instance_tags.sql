-- The user's own labels of a backup instance, JSON.

ALTER TABLE backup_instances ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
