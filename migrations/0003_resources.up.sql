-- min_compatible: 1
create table resources (
    uid        text collate "C" not null,
    group_uid  text collate "C" not null,
    kind       text collate "C" not null,
    name       text collate "C" not null,
    labels     jsonb            not null default '{}',
    revision   bigint           not null,
    sealed     bytea            not null,
    created_at timestamptz      not null,
    updated_at timestamptz      not null,
    constraint resources_pkey primary key (uid),
    constraint resources_name_uq unique (group_uid, kind, name),
    constraint resources_group_fk foreign key (group_uid) references groups (uid),
    constraint resources_uid_ck check (uid ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'),
    constraint resources_revision_ck check (revision > 0)
);
alter table resources alter column sealed set storage external;
comment on table resources is
    'The current resources and system records of all groups; the content is in sealed, the other columns are what lists need.';

create table changes (
    group_uid text collate "C" not null,
    revision  bigint           not null,
    epoch     bigint           not null,
    sealed    bytea            not null,
    at        timestamptz      not null,
    actor     text             not null,
    summary   text             not null default '',
    constraint changes_pkey primary key (group_uid, revision),
    constraint changes_group_fk foreign key (group_uid) references groups (uid),
    constraint changes_revision_ck check (revision > 0)
);
alter table changes alter column sealed set storage external;
comment on table changes is
    'One row per revision: what it put and removed, sealed, so that a replica or gateway that missed it can follow.';
