-- The arguments as the backend got them, where a rewriter changed them.
ALTER TABLE audit_calls ADD COLUMN sent TEXT;
