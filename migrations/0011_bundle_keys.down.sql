drop table bundle_keys;
