-- min_compatible: 1
create table credential_uses (
    uid     text collate "C" not null,
    used_at timestamptz      not null,
    constraint credential_uses_pkey primary key (uid),
    constraint credential_uses_resource_fk foreign key (uid) references resources (uid) on delete cascade
) with (fillfactor = 70);
comment on table credential_uses is
    'When gateways last said that a credential was used; those of which none did have no row. It is no configuration: no revision, no MAC.';

alter table groups add column uses_since timestamptz not null default now();
comment on column groups.uses_since is
    'Since when uses of the credentials of the group are recorded; of groups that were there before, since this column is.';
