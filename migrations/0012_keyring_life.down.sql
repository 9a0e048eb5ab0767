drop function rewrap_changes(text, bigint[], bytea[], bytea[]);
drop table keyring_terms;
drop table keyring_readers;
drop table next_keyrings;
drop table replicas;
