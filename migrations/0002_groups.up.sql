-- min_compatible: 1
create table groups (
    uid         text collate "C" not null,
    name        text collate "C" not null,
    description text             not null default '',
    created_at  timestamptz      not null,
    constraint groups_pkey primary key (uid),
    constraint groups_name_uq unique (name),
    constraint groups_uid_ck check (uid ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')
);
comment on table groups is
    'Gateway groups; rows and so names are never removed. The nil uid is the reserved group "system".';

create table heads (
    group_uid       text collate "C" not null,
    epoch           bigint           not null,
    revision        bigint           not null,
    resource_count  bigint           not null,
    digest          bytea            not null,
    keyring_version integer          not null,
    audit_seq       bigint           not null,
    audit_head      bytea            not null,
    mac             bytea            not null,
    updated_at      timestamptz      not null,
    constraint heads_pkey primary key (group_uid),
    constraint heads_group_fk foreign key (group_uid) references groups (uid),
    constraint heads_digest_ck check (length(digest) = 32),
    constraint heads_revision_ck check (revision >= 0 and resource_count >= 0 and audit_seq >= 0)
) with (fillfactor = 50);
comment on table heads is
    'Where each group stands. Every write locks this row first; mac covers it all, so that missing rows and an older head show.';
comment on column heads.digest is 'Digest of the set; the pepper in it keeps it from being guessed.';
comment on column heads.mac is 'HMAC under the keyring of the group.';

create table keyrings (
    group_uid  text collate "C" not null,
    version    integer          not null,
    kek_id     text             not null,
    wrapped    bytea            not null,
    updated_at timestamptz      not null,
    constraint keyrings_pkey primary key (group_uid),
    constraint keyrings_group_fk foreign key (group_uid) references groups (uid),
    constraint keyrings_version_ck check (version > 0)
);
comment on table keyrings is
    'The keyring of each group, wrapped by the key-encryption key with group uid and version as context.';
