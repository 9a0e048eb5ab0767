-- min_compatible: 1
create table bundle_keys (
    group_uid  text collate "C" not null,
    version    integer          not null,
    sealed     bytea            not null,
    created_at timestamptz      not null,
    constraint bundle_keys_pkey primary key (group_uid, version),
    constraint bundle_keys_group_fk foreign key (group_uid) references groups (uid),
    constraint bundle_keys_version_ck check (version > 0)
);
comment on table bundle_keys is
    'The keys that fallback bundles are sealed to, by group, under its keyring; of each group the highest version counts. The row of the system is the key that signs them.';
