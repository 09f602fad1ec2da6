"""Converters: JSON records in, typed columns out.

`rules` is the place to begin: a table for each deserializer, of what every kind of JSON value becomes in every type.
The cells of the tables are in `scalars` and `containers`, which read numbers with `numbers` and times with `times`, or
`hive_times` and `joda`. A `book` makes the rules of one table of the catalog, `json_text` reads a record's JSON, and
`records` runs the rules over a column of records. `openx` and `hive` are the configuration of each.

That is the specification; a faster engine must give the same rows, failures and remarks. Numbers like 4.5 in these
files are paragraphs of the behaviour of Firehose; docs/conversion.md lists them.
"""

# First, whatever module of this package is asked for: components loads the converters by their entry points while it is
# being imported, and must not meet one of them half imported.
import firehose.components  # noqa: F401 - imported for its effect
