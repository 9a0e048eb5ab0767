-- min_compatible: 1
create table schema_version (
    singleton      boolean     not null default true,
    version        integer     not null,
    min_compatible integer     not null,
    applied_at     timestamptz not null default now(),
    constraint schema_version_pkey primary key (singleton),
    constraint schema_version_singleton_ck check (singleton),
    constraint schema_version_order_ck check (min_compatible between 0 and version)
);
comment on table schema_version is
    'One row: the version of this schema and the oldest one whose programs still work with it.';
