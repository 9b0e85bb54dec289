"""What pages and downloads ask about money: read only; sums from roll-ups, rows by an index."""
