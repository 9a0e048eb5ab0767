-- min_compatible: 1
create table acme_accounts (
    group_uid  text collate "C" not null,
    id         text collate "C" not null,
    sealed     bytea            not null,
    created_at timestamptz      not null,
    updated_at timestamptz      not null,
    constraint acme_accounts_pkey primary key (group_uid, id),
    constraint acme_accounts_group_fk foreign key (group_uid) references groups (uid)
);
comment on table acme_accounts is
    'Accounts of groups with ACME authorities, with their keys, under the keyrings of the groups. Gateways have no use for them.';
