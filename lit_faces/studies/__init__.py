"""The study: ways of learning people, compared."""
