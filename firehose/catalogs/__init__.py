"""Catalogs: where the columns of tables are described."""
