"""pyarrow and DuckDB over Parquet: written in parts, read by ranges."""

import importlib.util
import random
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

import files
from files import PART

ROWS = 400_000


@pytest.fixture(scope="module")
def table():
    """Some 13 MB that do not compress."""
    numbers = random.Random(4)
    return pa.table({"id": range(ROWS), "region": [f"r{number % 4}" for number in range(ROWS)],
                     "value": [numbers.random() for _ in range(ROWS)], "note": [numbers.randbytes(12).hex() for _ in range(ROWS)]})


@pytest.fixture
def arrow(target):
    secure, host = target.url.split("://")
    return fs.S3FileSystem(access_key=target.access_key, secret_key=target.secret_key, region=target.region, scheme=secure,
                           endpoint_override=host, tls_ca_file_path=target.ca or "", background_writes=True)


@pytest.fixture
def duck(target, tmp_path):
    secure, host = target.url.split("://")
    database = duckdb.connect(config={"allow_unsigned_extensions": "true", "home_directory": str(tmp_path)})
    (extension,) = Path(importlib.util.find_spec("duckdb_extension_httpfs").origin).parent.rglob("*.duckdb_extension")
    database.execute(f"LOAD '{extension}'")
    if target.ca:
        database.execute(f"SET ca_cert_file = '{target.ca}'")
        database.execute("SET enable_server_cert_verification = true")
    database.execute(f"""CREATE SECRET (TYPE s3, KEY_ID '{target.access_key}', SECRET '{target.secret_key}', REGION '{target.region}',
                         ENDPOINT '{host}', URL_STYLE 'path', USE_SSL {str(secure == 'https').lower()})""")
    return database


def test_pyarrow_writes_and_reads_a_file_in_parts(target, arrow, table, prefix):
    path = f"{target.bucket}/{prefix}table.parquet"
    pq.write_table(table, path, filesystem=arrow, row_group_size=20_000)
    assert arrow.get_file_info(path).size == files.listed(target, prefix)["table.parquet"][0] > 2 * PART
    assert pq.read_table(path, filesystem=arrow).equals(table)
    # One column and a few row groups: ranges in the middle of the object.
    some = pq.read_table(path, filesystem=arrow, columns=["value"], filters=[("id", ">=", 123_456), ("id", "<", 123_500)])
    assert some["value"].to_pylist() == table["value"].slice(123_456, 44).to_pylist()


def test_pyarrow_keeps_a_partitioned_dataset(target, arrow, table, prefix):
    base = f"{target.bucket}/{prefix}dataset"
    parts = ds.partitioning(pa.schema([("region", pa.string())]), flavor="hive")
    ds.write_dataset(table, base, format="parquet", filesystem=arrow, partitioning=parts)
    dataset = ds.dataset(base, filesystem=arrow, partitioning="hive")
    found = dataset.to_table(columns=["id", "value"], filter=pc.field("region") == "r2").sort_by("id")
    assert found["value"].to_pylist() == table.filter(pc.field("region") == "r2")["value"].to_pylist()
    assert dataset.count_rows() == ROWS


def test_pyarrow_as_a_file_system(target, arrow, prefix):
    base, data = f"{target.bucket}/{prefix}files", files.content(target, PART + 1000)
    arrow.create_dir(base)
    with arrow.open_output_stream(f"{base}/first", metadata={"Content-Type": "application/x-claviger-test", "color": "blue"}) as out:
        out.write(data)
    arrow.copy_file(f"{base}/first", f"{base}/second")
    arrow.move(f"{base}/first", f"{base}/third")
    with arrow.open_input_file(f"{base}/second") as file:
        assert file.read_at(100, PART - 50) == data[PART - 50:PART + 50]
    head = target.s3.head_object(Bucket=target.bucket, Key=f"{prefix}files/second")
    assert head["ContentType"] == "application/x-claviger-test"
    names = [entry.base_name for entry in arrow.get_file_info(fs.FileSelector(base)) if entry.is_file]
    assert sorted(names) == ["second", "third"]
    arrow.delete_dir(base)
    assert not [key for key in files.listed(target, prefix) if key.startswith("files/")]


def test_duckdb_writes_and_reads(target, duck, arrow, table, prefix):
    base = f"s3://{target.bucket}/{prefix}duck"
    duck.register("source", table)
    duck.execute(f"COPY source TO '{base}/all.parquet' (ROW_GROUP_SIZE 20000)")
    assert duck.execute(f"SELECT count(*), sum(id), max(value) FROM '{base}/all.parquet'").fetchone() == (
        ROWS, ROWS * (ROWS - 1) // 2, pc.max(table["value"]).as_py())
    (note,) = duck.execute(f"SELECT note FROM '{base}/all.parquet' WHERE id = 123456").fetchone()
    assert note == table["note"][123_456].as_py()
    # What one wrote, the other reads.
    assert pq.read_table(f"{target.bucket}/{prefix}duck/all.parquet", filesystem=arrow).num_rows == ROWS
    duck.execute(f"COPY source TO '{base}/parts' (FORMAT parquet, PARTITION_BY (region))")
    found = duck.execute(f"SELECT region, count(*) FROM read_parquet('{base}/parts/*/*.parquet', hive_partitioning = true) "
                         "GROUP BY region ORDER BY region").fetchall()
    assert found == [(f"r{number}", ROWS // 4) for number in range(4)]
    duck.execute(f"COPY (SELECT * FROM source LIMIT 1000) TO '{base}/some.csv'")
    assert duck.execute(f"SELECT sum(id) FROM '{base}/some.csv'").fetchone() == (499_500,)
