"""Steps that change, drop or fail records, one module each. Child processes import from here: keep this file empty."""
