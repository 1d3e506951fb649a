"""Read models in PostgreSQL: runner, one file a read model, queries; the only SQL."""
