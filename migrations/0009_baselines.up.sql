-- min_compatible: 1
create table baselines (
    group_uid  text collate "C" not null,
    revision   bigint           not null,
    sealed     bytea            not null,
    updated_at timestamptz      not null,
    constraint baselines_pkey primary key (group_uid),
    constraint baselines_group_fk foreign key (group_uid) references groups (uid),
    constraint baselines_revision_ck check (revision > 0)
);
comment on table baselines is
    'Where the history of a group begins: the last revision whose change is no longer kept, and the sealed state of its digest.';

create table baseline_records (
    group_uid  text collate "C" not null,
    kind       text collate "C" not null,
    uid        text collate "C" not null,
    revision   bigint           not null,
    sealed     bytea            not null,
    created_at timestamptz      not null,
    updated_at timestamptz      not null,
    constraint baseline_records_pkey primary key (group_uid, kind, uid),
    constraint baseline_records_group_fk foreign key (group_uid) references groups (uid),
    constraint baseline_records_revision_ck check (revision > 0)
);
alter table baseline_records alter column sealed set storage external;
comment on table baseline_records is
    'What a group held at its baseline, one sealed record each: what the kept changes are applied to.';

-- The runtime role cannot delete changes. It may call this, which takes them from the old end only, not beyond the
-- baseline, and never one of the newest 256. The path is pinned, so that no temporary table is taken for one of these.
do $make$
begin
    execute format($function$
        create function drop_changes(of_group text, up_to bigint) returns bigint
        language sql security definer set search_path = %I, pg_temp
        as $body$
            with gone as (
                delete from changes c
                where c.group_uid = of_group and c.revision <= up_to
                    and c.revision <= (select b.revision from baselines b where b.group_uid = of_group)
                    and c.revision <= (select max(k.revision) - 256 from changes k where k.group_uid = of_group)
                returning 1
            )
            select count(*) from gone
        $body$
        $function$, current_schema());
end
$make$;
revoke all on function drop_changes(text, bigint) from public;
comment on function drop_changes(text, bigint) is 'Deletes changes that are in the baseline; answers how many.';
