-- Which reading of the configuration file a call was judged by; null in rows from before there was such a number.
ALTER TABLE audit_calls ADD COLUMN generation bigint;
