-- What looks of the operational tier wait for, and what they know beside their ranges.

ALTER TABLE jobs ADD COLUMN in_place INTEGER NOT NULL DEFAULT 0;     -- 1: the protected account itself is rolled back
UPDATE jobs SET in_place = 1 WHERE kind = 'restore' AND spec LIKE '%"in_place":true%';

-- Of base points of accounts that keep versions.
ALTER TABLE recovery_points ADD COLUMN base_until INTEGER;      -- every change up to this instant, in microseconds, lies before its journal; NULL: no base point
ALTER TABLE recovery_points ADD COLUMN base_follows TEXT;       -- the base point that it goes on from; NULL: none

-- The containers in which the newest base point of an instance, or its journal, has something.
CREATE TABLE operational_containers (
    instance_uuid TEXT PRIMARY KEY NOT NULL,
    base          TEXT NOT NULL,            -- the base point
    marks         TEXT NOT NULL             -- JSON: by name, how the account marked the container; null: what is known may be of one that has gone
);
