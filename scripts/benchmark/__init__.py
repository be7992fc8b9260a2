"""What scripts/bench is made of: `machine` measures a command, `data` makes and changes files, `endpoint` and `blobs` serve them
as blobs, `tools` knows the commands, `compare` runs rounds of them, `own` and `scale` are the cases of Blobkeep alone, `report`
prints."""
