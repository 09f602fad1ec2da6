"""Converters: JSON records in, typed columns out.

`json_text` reads a record's JSON. Each deserializer has its rules in one module: for
OpenX, `openx_rules` says what every JSON value becomes in every type, and `openx` runs it over a column of records.
That pair is the specification; a faster engine must give the same rows, failures and remarks.
"""

# First, whatever module of this package is asked for: components loads the converters by their entry points while it is
# being imported, and must not meet one of them half imported.
import firehose.components  # noqa: F401 - imported for its effect
