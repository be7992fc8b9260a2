-- What looks of the operational tier wait for.

ALTER TABLE jobs ADD COLUMN in_place INTEGER NOT NULL DEFAULT 0;     -- 1: the protected account itself is rolled back
UPDATE jobs SET in_place = 1 WHERE kind = 'restore' AND spec LIKE '%"in_place":true%';
