"""Where tables are described. What every catalog says in the same words stands here."""

#: The version that follows a table as it changes.
LATEST = "LATEST"

#: The catalog has no such table.
NO_TABLE = "DataFormatConversion.EntityNotFound"
#: It has the table, but not this version of it.
NO_VERSION = "DataFormatConversion.InvalidVersionId"
#: A column that is to be added stands there already, and is something else.
OTHER_COLUMN = "DataFormatConversion.ColumnConflict"
