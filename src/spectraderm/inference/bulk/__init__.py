"""Millions of photos -> Parquet, in parts that are whole or not there: what was killed goes on. pyarrow's room."""
