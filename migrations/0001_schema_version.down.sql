drop table schema_version;
