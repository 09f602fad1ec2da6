"""The table that a stream's records are converted to, as its catalog has it, and the kernel that converts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from firehose.components import ComponentConfig, ConvertConfig, config_classes
from firehose.kernels import Kernels
from firehose.protocols import Catalog, Converted, Converter, TableSchema

#: What a record fails with that ends the process it is converted in, or takes too long, even alone.
CONVERSION_FAILURE = "DataFormatConversion.ConversionFailureException"
ENDS_ITS_PROCESS = "The record cannot be converted: its converter process ended, or had no answer in time."


@dataclass(frozen=True, slots=True)
class Prepared:
    """A table at one version, and the kernel that turns records into its columns."""

    table: TableSchema
    converter: Converter
    deserializer: ComponentConfig

    factory = "firehose.delivery.conversion:prepared"
    ending = (CONVERSION_FAILURE, ENDS_ITS_PROCESS)

    @property
    def schema(self) -> pa.Schema:
        return self.converter.schema

    @property
    def releases_gil(self) -> bool:
        return self.converter.releases_gil

    @property
    def words(self) -> Mapping[str, Any]:
        return {"deserializer": self.deserializer.model_dump(mode="json", by_alias=True), "table": asdict(self.table)}

    def run(self, rows: pa.RecordBatch) -> Converted:
        """Return the columns of the records in `data`."""
        return self.converter.convert(rows.column("data"))


def prepared(deserializer: Mapping[str, Any], table: Mapping[str, Any]) -> Prepared:
    """Return what `Prepared.words` describe."""
    columns = tuple((name, kind) for name, kind in table["columns"])
    schema = TableSchema(**{**table, "columns": columns})
    config = config_classes("converters")[deserializer["type"]].model_validate(deserializer)
    return Prepared(schema, config.build(schema), config)


class Conversion:
    """Converts the records of one stream to the columns of its table."""

    def __init__(self, config: ConvertConfig, catalog: Catalog, kernels: Kernels) -> None:
        self._config = config
        self._catalog = catalog
        self._kernels = kernels
        self._prepared: Prepared | None = None

    async def prepare(self) -> Prepared:
        """Return the table as the catalog has it now. Errors: the catalog's; the records wait meanwhile."""
        database, _, table = self._config.table.partition(".")
        schema = await self._catalog.table_schema(database, table, self._config.version)
        if self._prepared is None or self._prepared.table != schema:
            deserializer = self._config.deserializer
            self._prepared = Prepared(schema, deserializer.build(schema), deserializer)
        return self._prepared

    async def convert(self, prepared: Prepared, data: pa.LargeBinaryArray) -> Converted:
        """Return the columns of `data` and what failed. Errors: those of `Kernels.run`."""
        return await self._kernels.run(prepared, pa.RecordBatch.from_arrays([data], names=["data"]))
