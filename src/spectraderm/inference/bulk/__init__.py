"""Any number of photos, here or in an object store -> a folder of Parquet files. The only room with pyarrow and Ray."""
